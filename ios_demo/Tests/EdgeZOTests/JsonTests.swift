import EdgeSystem
import EdgeZO
import XCTest

final class JsonTests: XCTestCase {
    private func parse(_ text: String) throws -> Json { try Json.parse(text.utf8) }

    func testTextsAndNumbersAreReadAsTheyAreSpelled() throws {
        let value = try parse(
            #" {"a": [1, -2.50e3, true, null], "\u00fc\ud83d\ude00\n": "x\/\"", "n": NaN, "i": -Infinity} "#)
        XCTAssertEqual(value["a"], .list([.number("1"), .number("-2.50e3"), .bool(true), .null]))
        XCTAssertEqual(value["ü😀\n"]?.string, "x/\"")
        XCTAssertEqual(value["n"]?.double?.isNaN, true)
        XCTAssertEqual(value["i"]?.double, -.infinity)
        XCTAssertEqual(try parse("18446744073709551615").uint64, .max)
        XCTAssertNil(try parse("1.0").int)
    }

    func testWhatIsNotJsonIsRefused() {
        let wrong = [
            "", "{", "[1,]", "[1 2]", "{\"a\" 1}", "{\"a\": 1, \"a\": 2}", "{a: 1}", "01", "1.", "1e", "-", "tru",
            "\"\\x\"",
            "\"\\ud800\"", "\"a", "\"\u{1}\"", "1 2", "+1", ".5", String(repeating: "[", count: 100_000),
        ]
        for text in wrong { XCTAssertThrowsError(try parse(text), text) { XCTAssertTrue($0 is EdgeSdkError) } }
        XCTAssertThrowsError(try Json.parse([0x22, 0xFF, 0x22]))
    }

    func testLettersThatOnlyLookAlikeAreTwoKeys() throws {
        XCTAssertEqual(try parse("{\"\u{e9}\": 1, \"e\u{301}\": 2}").entries?.count, 2)
    }

    func testNumbersAreWrittenAsPythonWritesThem() {
        let spelled: [(Double, String)] = [
            (1, "1.0"), (0.005, "0.005"), (1e-8, "1e-08"), (0.0001, "0.0001"), (0.00001, "1e-05"),
            (1e15, "1000000000000000.0"),
            (9_007_199_254_740_994, "9007199254740994.0"), (1e16, "1e+16"), (1.5e300, "1.5e+300"), (-0.0, "-0.0"),
            (0.1 + 0.2, "0.30000000000000004"),
        ]
        for (value, text) in spelled { XCTAssertEqual(Json.number(value).written(), text) }
    }

    func testTextsAreWrittenInTheStyleThatIsAskedFor() {
        let value = Json.object([("ü", .list([.number(1), .text("😀\"\u{7f}")])), ("e", .object([]))])
        XCTAssertEqual(value.written(), #"{"\u00fc": [1, "\ud83d\ude00\"\u007f"], "e": {}}"#)
        XCTAssertEqual(value.written(.compact), "{\"ü\":[1,\"😀\\\"\u{7f}\"],\"e\":{}}")
        XCTAssertEqual(
            Json.object([("a", .list([.number(1)])), ("e", .list([]))]).written(.indented),
            "{\n  \"a\": [\n    1\n  ],\n  \"e\": []\n}")
    }

    func testSha256OfPublishedExamples() {
        XCTAssertEqual(Sha256.hex([]), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        XCTAssertEqual(
            Sha256.hex(Array("abc".utf8)), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        var parts = Sha256()
        for _ in 0..<10_000 { parts.update([UInt8](repeating: UInt8(ascii: "a"), count: 100)) }
        XCTAssertEqual(parts.hex(), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    }
}
