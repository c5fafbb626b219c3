import EdgeRuntime
import EdgeSystem
import EdgeZO
import TestSupport
import XCTest

final class LearnedEmbeddingTests: XCTestCase {
    func testFilesEqualPythonsInEveryByteAndReadBack() throws {
        for one in try Golden.json("learned_embeds.json").at("files").array {
            let name = one.at("file").string!, metadata = one.at("metadata").entries!.map { ($0.key, $0.value.string!) }
            let embedding = try LearnedEmbedding(
                token: one.at("token").string!, vectors: one.at("vectors").floats,
                widths: one.at("encoder_dims").integers,
                metadata: Dictionary(uniqueKeysWithValues: metadata))
            XCTAssertTrue(embedding.toBytes() == (try Golden.bytes(name)), name)
            let read = try LearnedEmbedding(embedding.toBytes(), name: name)
            XCTAssertEqual(read.token, embedding.token)
            XCTAssertEqual(read.vectors, embedding.vectors)
            XCTAssertEqual(read.widths, embedding.widths)
        }
    }

    func testHalvesOfAWebUIsFileAreReadAndTheFileNamesTheWord() throws {
        let halves: [UInt16] = [0x3C00, 0xC000, 0x0001, 0x7BFF]  // 1, -2, the smallest, 65504
        for (number, wanted) in [
            (Safetensors.Number.f16, [1, -2, 0x1p-24, 65504]), (.bf16, [0.0078125, -2, 0x1p-133, 0x1.FEp120]),
        ] {
            let bytes = halves.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
            let tensor = Safetensors.Tensor(number: number, shape: [2, 2], bytes: bytes)
            let file = Safetensors(metadata: [], tensors: [("emb_params", tensor)])
            let read = try LearnedEmbedding(file.sortedBytes(), name: "my mug.safetensors")
            XCTAssertEqual(read.token, "my mug")
            XCTAssertEqual(read.count, 2)
            XCTAssertEqual(read.vectors, wanted.map { Float($0) })
        }
    }

    func testFilesThatAreNoEmbeddingAreRefusedInOneLine() throws {
        let good = try Golden.bytes("learned_embeds.safetensors")
        func file(_ tensors: [(String, Safetensors.Tensor)]) -> [UInt8] {
            Safetensors(metadata: [], tensors: tensors.map { (name: $0.0, tensor: $0.1) }).bytes()
        }
        let cases: [(String, [UInt8], String)] = [
            ("a.bin", good, "no .safetensors file"), ("a.safetensors", [], "damaged"),
            ("a.safetensors", Array(good.dropLast()), "damaged"), ("a.safetensors", good + [0], "damaged"),
            ("a.safetensors", file([]), "0 tensors"),
            (
                "a.safetensors", file([("a", .init([Float(1)], shape: [1])), ("b", .init([Float(1)], shape: [1]))]),
                "2 tensors"
            ),
            ("a.safetensors", file([("<a>", .init([Float.nan], shape: [1, 1]))]), "finite"),
            ("a.safetensors", file([("<a>", .init([1, 2], shape: [1, 2]))]), "finite"),
            ("a.safetensors", file([(" ", .init([Float(1)], shape: [1, 1]))]), "names no word"),
        ]
        for (name, bytes, what) in cases {
            XCTAssertThrowsError(try LearnedEmbedding(bytes, name: name), what) {
                XCTAssertTrue($0 is EdgeSdkError && "\($0)".contains(what) && !"\($0)".contains("\n"), "\($0)")
            }
        }
        XCTAssertThrowsError(try LearnedEmbedding(token: "<a>", vectors: [.infinity], widths: [1]))
    }
}
