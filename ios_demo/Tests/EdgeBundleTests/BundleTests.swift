import EdgeSystem
import EdgeZO
import Foundation
import TestSupport
import XCTest

@testable import EdgeBundle

final class BundleTests: XCTestCase {
    /// What the refusal of a class says, one of the parts between bars; the classes are those of damaged.json.
    private static let words = [
        "an unsafe path": "names the path", "an unlisted file": "list", "a wrong size": " bytes and ",
        "a wrong hash": "its sha256 differs", "an unknown schema version": "has schema version",
        "an unknown value": "not one of|for the format coreml only", "a missing entry": "is missing",
        "a wrong type": "not a",
        "an absurd number": ":", "a key given twice": "is given twice", "not JSON": "cannot be read as JSON",
        "a missing file": "is missing", "a link": "is a link to a folder",
        "an entry of another format": "for the format coreml only",
    ]

    private func refusal(_ folder: URL) -> String? {
        do {
            _ = try ModelBundle(folder)
            return nil
        } catch { return "\(error)" }
    }

    func testTheGoldenBundleOpens() throws {
        let bundle = try ModelBundle(Golden.folder.appendingPathComponent("bundle"))
        XCTAssertEqual(bundle.manifest.model.family, .stableDiffusion)
        XCTAssertEqual(bundle.scale.count, bundle.widths.reduce(0, +))
        XCTAssertEqual(try bundle.principalDirections(1000).count, bundle.manifest.principalDirections.count)
        XCTAssertEqual(bundle.leftovers, [])
    }

    func testEveryDamageIsRefusedInOneLineOfItsClass() throws {
        for one in try Golden.json("damaged.json").at("manifest").array {
            let copy = try copyOfBundle(self)
            let (old, new) = (one.at("replace").texts[0], one.at("replace").texts[1])
            try replace(copy.appendingPathComponent("manifest.json"), old, new)
            assertRefused(copy, one)
        }
    }

    func testEveryDamagedFileIsRefused() throws {
        for one in try Golden.json("damaged.json").at("files").array {
            let copy = try copyOfBundle(self)
            let file = copy.appendingPathComponent(one.at("file").string!)
            let files = FileManager.default
            switch one.at("action").string! {
            case "remove": try files.removeItem(at: file)
            case "add": try Data().write(to: file)
            case "cut": try Data(contentsOf: file).dropLast().write(to: file)
            case "flip":
                var data = try Data(contentsOf: file)
                data[data.count - 1] ^= 1
                try data.write(to: file)
            case "link":
                let elsewhere = copy.deletingLastPathComponent().appendingPathComponent("elsewhere")
                try files.moveItem(at: file, to: elsewhere)
                try files.createSymbolicLink(at: file, withDestinationURL: elsewhere)
            default: XCTFail("an unknown action")
            }
            assertRefused(copy, one)
        }
    }

    private func assertRefused(_ copy: URL, _ one: Json) {
        let name = one.at("name").string!
        guard let line = refusal(copy) else { return XCTFail("accepted: \(name)") }
        XCTAssertFalse(line.contains("\n"), name)
        let words = Self.words[one.at("class").string!]!.split(separator: "|")
        XCTAssertTrue(words.contains { line.contains($0) }, "\(name): \(line)")
        if let entry = one["entry"]?.string { XCTAssertTrue(line.contains(entry), "\(name): \(line)") }
    }

    func testAFileMayBeALinkAndLeftoversAreNamed() throws {
        let copy = try copyOfBundle(self)
        let (file, elsewhere) = (
            copy.appendingPathComponent("weights.bin"), copy.deletingLastPathComponent().appendingPathComponent("blob")
        )
        try FileManager.default.moveItem(at: file, to: elsewhere)
        try FileManager.default.createSymbolicLink(at: file, withDestinationURL: elsewhere)
        try FileManager.default.createDirectory(
            at: copy.appendingPathComponent(".git"), withIntermediateDirectories: true)
        for name in [".DS_Store", "README.md", ".git/weights.bin"] {
            try Data([1]).write(to: copy.appendingPathComponent(name))
        }
        XCTAssertEqual(try ModelBundle(copy).leftovers, [".DS_Store", ".git", "README.md"])
    }

    func testWhatCouldBeTakenForAPartIsRefused() throws {
        for name in ["other.bin", "sub/other.onnx", "tokenizer/added_tokens.json"] {
            let copy = try copyOfBundle(self)
            let file = copy.appendingPathComponent(name)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data([1]).write(to: file)
            XCTAssertTrue(refusal(copy)?.contains("is not listed") ?? false, name)
        }
    }

    func testAFolderThatIsNoBundleIsRefused() throws {
        let folder = try temporaryFolder(self)
        XCTAssertTrue(refusal(folder)!.contains("give the folder that edge-sdk export has written"))
        XCTAssertTrue(refusal(folder.appendingPathComponent("none"))!.contains("No such file"))
        try Data("[]".utf8).write(to: folder.appendingPathComponent("manifest.json"))
        XCTAssertTrue(refusal(folder)!.contains("has schema version none"))
    }

    func testAHalfIsTheNumberThatItStandsFor() {
        XCTAssertEqual([0x3C00, 0xC000, 0x0001, 0x7BFF, 0x8000].map(half), [1, -2, 0x1p-24, 65504, -0.0])
        XCTAssertTrue(half(0x7E00).isNaN)
        XCTAssertEqual(half(0xFC00), -.infinity)
    }

    func testGoldenCasesOfTheBundleAreChecked() throws {
        _ = try GoldenCases(ModelBundle(Golden.folder.appendingPathComponent("bundle")))
    }
}
