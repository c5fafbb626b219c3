import EdgeSystem
import EdgeZO
import TestSupport
import XCTest

final class ConfigTests: XCTestCase {
    func testPresetsEqualPythonsInEveryByte() throws {
        let golden = try Golden.json("presets.json")
        XCTAssertEqual(ZoConfig.paper.json.written(), golden.at("paper").written())
        XCTAssertEqual(try ZoConfig(json: golden.at("paper")), .paper)
        for one in golden.at("fast").array {
            let fast = ZoConfig.fast(vocabularyStd: one.at("vocabulary_std").number, width: one.at("width").integer)
            XCTAssertEqual(fast.json.written(), one.at("config").written())
            XCTAssertEqual(try ZoConfig(json: one.at("config")), fast)
            XCTAssertEqual(fast.forwardsPerStep, one.at("forwards_per_step").integer)
        }
        for one in golden.at("forwards_per_step").array {
            let changed = try one.at("change").entries!.reduce(ZoConfig.paper) { try $0.with($1.key, $1.value) }
            XCTAssertEqual(changed.forwardsPerStep, one.at("forwards").integer)
        }
    }

    func testMuIsRaisedToItsFloorAsInPython() throws {
        for one in try Golden.json("presets.json").at("raised_mu").array {
            var config = ZoConfig.paper
            config.zoMu = one.at("zo_mu").number
            let floor = one.at("mu_min").isNull ? .infinity : one.at("mu_min").number
            let raised = MuFloor.raised(config, muMin: floor, vocabularyStd: one.at("vocabulary_std").number)
            XCTAssertEqual(raised.zoMu, one.at("used").number)
        }
        XCTAssertThrowsError(try MuFloor.refuse(.paper, below: 0.002, how: "int8 dequantized")) {
            XCTAssertEqual(
                "\($0)",
                "zo_mu is 0.001; with int8 dequantized the rounding of activations drowns this model's loss differences "
                    + "below 0.002; give at least 0.002")
        }
        XCTAssertThrowsError(try MuFloor.refuse(.paper, below: .infinity, how: "int8 dequantized")) {
            XCTAssertTrue("\($0)".hasSuffix("over all lengths that were tried; leave it out"), "\($0)")
        }
        XCTAssertNoThrow(try MuFloor.refuse(.paper, below: 0.001, how: "int8 dequantized"))
    }

    func testValuesOutOfRangeAreRefusedInOneLineThatNamesThem() throws {
        let golden = try Golden.json("presets.json")
        for one in golden.at("refused").array {
            let name = one.at("name").string!
            let entries = golden.at("paper").entries!.filter { $0.key != name } + [(name, one.at("value"))]
            XCTAssertThrowsError(try ZoConfig(json: .object(entries)), "\(name) \(one.at("value").written())") {
                error in
                XCTAssertTrue("\(error)".contains(name), "\(error)")
                XCTAssertFalse("\(error)".contains("\n"))
            }
        }
    }

    func testValuesOfAnotherTypeAreRefused() throws {
        let wrong: [(String, Json)] = [
            ("zo_samples", .number("2.0")), ("zo_samples", .bool(true)), ("zo_mu", .text("0.1")),
            ("zo_mu", .number("NaN")),
            ("zo_normalize", .number(1)), ("timestep_range", .list([.number("0.0"), .number(5)])), ("optimizer", .null),
            ("timestep_range", .list([.number(0), .number(5), .number(6)])), ("seed", .number(1)),
            ("zo_samples", .number("99999999999999999999")),
        ]
        for (name, value) in wrong { XCTAssertThrowsError(try ZoConfig.paper.with(name, value), "\(name) \(value)") }
        XCTAssertEqual(try ZoConfig.paper.with("memory", .number(2)).memory, 2)
        XCTAssertEqual(try ZoConfig.paper.with("subspace_buffer", .number(0)).subspaceBuffer, 0)
        XCTAssertThrowsError(try ZoConfig.paper.with("zo_mu", .number(10.0))) {
            XCTAssertEqual("\($0)", "zo_mu is 10.0; it must be above 0 and below 10")
        }
        XCTAssertThrowsError(try ZoConfig.paper.with("subspace_buffer", .number(1))) {
            XCTAssertEqual("\($0)", "subspace_buffer is 1; it must be 0 (off) or from 2 to 4096")
        }
        var config = ZoConfig.paper
        config.timestepRange = .init(low: 9, high: 3)
        XCTAssertThrowsError(try config.check())
    }
}
