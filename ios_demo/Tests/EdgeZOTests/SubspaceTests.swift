import EdgeZO
import TestSupport
import XCTest

final class SubspaceTests: XCTestCase {
    func testRemovedDirectionsSpanWhatPythonsSpan() throws {
        for one in try Golden.json("subspace.json").at("cases").array {
            let found = lowVarianceDirections(one.at("history").rows, threshold: one.at("threshold").number)
            let removed = one.at("removed").rows, width = one.at("history").rows[0].count
            XCTAssertEqual(found.count, removed.count)
            func projection(_ rows: [[Float]]) -> [Double] {  // P^T P: rows may differ in order and sign
                (0..<(width * width)).map { at in
                    rows.reduce(0) { $0 + Double($1[at / width]) * Double($1[at % width]) }
                }
            }
            XCTAssertLessThanOrEqual(worst(projection(found), projection(removed)), 1e-5)
        }
    }
}
