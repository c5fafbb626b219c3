import EdgeSystem
import EdgeZO
import TestSupport
import XCTest

final class CheckpointTests: XCTestCase {
    private struct Case {
        let bytes: [UInt8], file: String, steps: Int, run: GoldenRun, json: Json
    }

    private let golden = try! Golden.json("checkpoint.json")
    private var fingerprints: [String: String] {
        Dictionary(uniqueKeysWithValues: golden.at("fingerprints").entries!.map { ($0.key, $0.value.string!) })
    }

    private func cases() throws -> [Case] {
        let runs = try Golden.json("trajectory.json").at("runs").array
        return try golden.at("states").array.map { one in
            let json = try XCTUnwrap(runs.first { $0.at("name") == one.at("run") }), file = one.at("file").string!
            return Case(
                bytes: try Golden.bytes(file), file: file, steps: one.at("steps").integer, run: try GoldenRun(json),
                json: json)
        }
    }

    func testAStateGivesPythonsBytesAndTheseGiveTheState() throws {
        for one in try cases() {
            let salt = golden.at("salt").string!
            let read = try Checkpoint.state(of: one.bytes, path: one.file, fingerprints: fingerprints)
            XCTAssertEqual(read.step, one.steps)
            XCTAssertTrue(Checkpoint.bytes(of: read, fingerprints: fingerprints, salt: salt) == one.bytes, one.file)
        }
    }

    func testARunGoesOnFromPythonsCheckpoint() throws {
        for one in try cases() {
            var run = one.run.run(from: try Checkpoint.state(of: one.bytes, path: one.file))
            for wanted in one.json.at("steps").array.dropFirst(one.steps) {
                XCTAssertNotNil(try run.next())
                XCTAssertLessThanOrEqual(worst(run.state.embedding, wanted.at("token").floats), 1e-5)
            }
            XCTAssertNil(try run.next())
            XCTAssertLessThanOrEqual(worst(run.state.result, one.json.at("result").floats), 1e-5)
        }
    }

    /// Every run of `trajectory.json`, stopped after every step: the next step from the file gives the next state, and so
    /// do all that follow, in every bit.
    func testARunStoppedAtAnyStepGoesOnBitForBit() throws {
        for json in try Golden.json("trajectory.json").at("runs").array {
            let golden = try GoldenRun(json), name = json.at("name").string!
            var whole = golden.run(), stopped = golden.state, steps = 0
            while let _ = try? whole.next() {
                let bytes = Checkpoint.bytes(of: stopped, fingerprints: [:])
                var rest = golden.run(from: try Checkpoint.state(of: bytes, path: name))
                _ = try rest.next()
                XCTAssertTrue(rest.state == whole.state, "\(name), stopped after step \(steps)")
                (stopped, steps) = (rest.state, steps + 1)
            }
            XCTAssertEqual(steps, json.at("steps").array.count)
        }
    }

    func testDamagedFilesAreRefusedInOneLine() throws {
        for one in try cases() {
            for damage in golden.at("damaged").array {
                var bytes = one.bytes
                if let size = damage["cut_to"]?.int { bytes = Array(bytes[..<size]) }
                if let more = damage["append_hex"] { bytes += unhex(more.string!) }
                if let end = damage["last_bytes_hex"].map({ unhex($0.string!) }) {
                    bytes.replaceSubrange((bytes.count - end.count)..., with: end)
                }
                if let start = damage["first_bytes_hex"].map({ unhex($0.string!) }) {
                    bytes.replaceSubrange(..<start.count, with: start)
                }
                if let texts = damage["replace"]?.texts {
                    let old = Array(texts[0].utf8), at = try XCTUnwrap(bytes.firstRange(of: old))
                    bytes.replaceSubrange(at, with: Array(texts[1].utf8))
                }
                let name = damage.at("name").string!
                XCTAssertNotEqual(bytes, one.bytes, name)
                XCTAssertThrowsError(try Checkpoint.state(of: bytes, path: "state", fingerprints: fingerprints), name) {
                    error in
                    XCTAssertTrue(error is EdgeSdkError, "\(name): \(error)")
                    XCTAssertTrue("\(error)".hasPrefix("state ") && !"\(error)".contains("\n"), "\(name): \(error)")
                }
            }
        }
    }

    /// Every byte of a file's header and counts replaced: it is refused, or read as a state, and never ends the program.
    func testNoEditOfAHeaderEndsTheProgram() throws {
        for one in try cases() {
            let header = Int(one.bytes[0]) + Int(one.bytes[1]) << 8 + 8
            for at in stride(from: 0, to: header, by: 3) {
                for byte in [UInt8(ascii: "9"), UInt8(ascii: "-"), 0xFF] {
                    var bytes = one.bytes
                    bytes[at] = byte
                    do { _ = try Checkpoint.state(of: bytes, path: "state") } catch {
                        XCTAssertTrue(error is EdgeSdkError)
                    }
                }
            }
        }
    }

    func testOtherPhotosAreRefusedByName() throws {
        for one in try cases() {
            var others = fingerprints
            others["photos"] = "others"
            XCTAssertThrowsError(try Checkpoint.state(of: one.bytes, path: "state", fingerprints: others)) {
                XCTAssertEqual(
                    "\($0)", "state was made with another photos; resume with the same one or start a new run")
            }
        }
    }

    func testEveryFileHasASaltOfItsOwn() throws {
        let state = try XCTUnwrap(try cases().first).run.state
        let files = try (0..<2).map { _ in
            try Safetensors(Checkpoint.bytes(of: state, fingerprints: ["photos": "same"]))
        }
        XCTAssertEqual(files[0].text("salt")?.count, 32)
        XCTAssertNotEqual(files[0].text("fingerprints"), files[1].text("fingerprints"))
    }
}

private func unhex(_ text: String) -> [UInt8] {
    let digits = Array(text)
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(String(digits[$0...($0 + 1)]), radix: 16)! }
}
