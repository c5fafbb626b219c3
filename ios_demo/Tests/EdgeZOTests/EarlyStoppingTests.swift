import EdgeZO
import TestSupport
import XCTest

final class EarlyStoppingTests: XCTestCase {
    func testARunEndsAtTheLookWherePythonsEnds() throws {
        let golden = try Golden.json("stopping.json")
        XCTAssertEqual(EarlyStopping.look, golden.at("forwards_between_looks").integer)
        XCTAssertEqual(EarlyStopping.save, golden.at("forwards_between_checkpoints").integer)
        XCTAssertEqual(EarlyStopping.longest, golden.at("times_the_presets_steps").integer)
        for one in golden.at("cases").array {
            var config = ZoConfig.paper
            config.zoSamples = one.at("forwards_per_step").integer - 1
            let every = one.at("every").integer, losses = one.at("held_out").flat
            XCTAssertEqual(EarlyStopping.steps(of: EarlyStopping.look, config), every)
            var stopping = EarlyStopping(initial: one.at("initial").number, before: one.at("before").number, config)
            var looks = 0, ended: Int?
            for step in 1...(every * losses.count) where ended == nil {
                if stopping.ends(
                    after: step,
                    measure: {
                        looks += 1; return losses[looks - 1]
                    })
                {
                    ended = looks
                }
                XCTAssertEqual(looks, step / every)
            }
            XCTAssertEqual(ended, one.at("ends_at_look").int)
        }
    }
}
