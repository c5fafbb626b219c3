import EdgeZO
import TestSupport
import XCTest

final class NoiseTests: XCTestCase {
    /// Exact where the tests run; Apple's logarithm, sine and cosine may differ in the last bit.
    static let bound = {
        #if os(Linux)
            0
        #else
            1
        #endif
    }()

    func testBitsUniformsAndIntegersEqualPythons() throws {
        let golden = try Golden.json("noise.json")
        for one in golden.at("philox4x32_10").array {
            let counter = one.at("counter").integers.map { UInt32($0) }, key = one.at("key").integers.map { UInt32($0) }
            let output = philox4x32(SIMD4(counter), key: SIMD2(key))
            XCTAssertEqual((0..<4).map { Int(output[$0]) }, one.at("output").integers)
        }
        for one in golden.at("words").array {
            XCTAssertEqual(
                words(
                    seed: one.at("seed").seed, stream: Stream(rawValue: UInt32(one.at("stream").integer))!,
                    step: UInt32(one.at("step").integer), count: one.at("values").array.count,
                    start: one.at("start").integer
                ).map { Int($0) }, one.at("values").integers)
        }
        for one in golden.at("uniforms").array {
            XCTAssertEqual(
                uniforms(
                    seed: one.at("seed").seed, stream: Stream(rawValue: UInt32(one.at("stream").integer))!,
                    step: UInt32(one.at("step").integer), count: one.at("values").array.count), one.at("values").flat)
        }
        for one in golden.at("integers").array {
            XCTAssertEqual(
                integers(
                    seed: one.at("seed").seed, stream: Stream(rawValue: UInt32(one.at("stream").integer))!,
                    step: UInt32(one.at("step").integer), count: one.at("values").array.count,
                    below: one.at("n").integer), one.at("values").integers)
        }
    }

    func testNormalsEqualPythonsAlsoFromTheMiddleOfASequence() throws {
        let golden = try Golden.json("noise.json")
        for one in golden.at("normals").array + golden.at("normals_from").array {
            let values = normals(
                seed: one.at("seed").seed, stream: Stream(rawValue: UInt32(one.at("stream").integer))!,
                step: UInt32(one.at("step").integer), count: one.at("values").array.count,
                start: one["start"]?.integer ?? 0)
            XCTAssertLessThanOrEqual(ulps(values, one.at("values").floats), Self.bound)
        }
    }
}
