import EdgeSystem
import EdgeZO
import TestSupport
import XCTest

@testable import EdgeBundle

final class DdimTests: XCTestCase {
    private func sampler(_ one: Json, _ golden: Json, steps: Int) -> Ddim {
        let isFlow = one.at("prediction_type").string == "flow"
        return Ddim(
            numTrainTimesteps: golden.at("num_train_timesteps").integer,
            predictionType: .init(rawValue: one.at("prediction_type").string!)!,
            spacing: .init(rawValue: one["timestep_spacing"]?.string ?? "leading")!,
            stepsOffset: one["steps_offset"]?.int ?? 0,
            clipRange: one["clip_sample"]?.bool == true ? one.at("clip_sample_range").floats[0] : nil,
            setAlphaToOne: one.at("set_alpha_to_one").boolean,
            a: golden.at(isFlow ? "flow_a" : "a").floats, b: golden.at(isFlow ? "flow_b" : "b").floats)
    }

    func testTimestepsEqualPythons() throws {
        let golden = try Golden.json("ddim.json")
        for one in golden.at("timesteps").array {
            let ddim = Ddim(
                numTrainTimesteps: one.at("num_train_timesteps").integer,
                spacing: .init(rawValue: one.at("timestep_spacing").string!)!,
                stepsOffset: one.at("steps_offset").integer)
            XCTAssertEqual(ddim.timesteps(one.at("steps").integer), one.at("timesteps").integers)
        }
        for one in golden.at("most_steps").array {
            let ddim = Ddim(
                numTrainTimesteps: one.at("num_train_timesteps").integer, stepsOffset: one.at("steps_offset").integer)
            XCTAssertEqual(ddim.mostSteps, one.at("most").integer)
        }
    }

    func testStepsGuidanceAndAWholeLoopEqualPythons() throws {
        let golden = try Golden.json("ddim.json")
        for one in golden.at("steps").array {
            let steps = one.at("steps").integer
            let before = sampler(one, golden, steps: steps).step(
                one.at("predicted").floats, timestep: one.at("timestep").integer, steps: steps,
                latents: one.at("latents").floats)
            XCTAssertLessThanOrEqual(worst(before, one.at("before").floats), 1e-5)
        }
        let guidance = golden.at("guidance")
        let guided = Ddim.guided(
            guidance.at("without").floats, guidance.at("with_prompt").floats, scale: guidance.at("scale").floats[0])
        XCTAssertLessThanOrEqual(worst(guided, guidance.at("guided").floats), 1e-5)

        let loop = golden.at("loop"), steps = loop.at("steps").integer
        let ddim = sampler(loop, golden, steps: steps)
        var latents = loop.at("noise").floats
        for t in ddim.timesteps(steps) {
            latents = ddim.step(latents.map { 0.3 * $0 + Float(t) / 100 }, timestep: t, steps: steps, latents: latents)
        }
        XCTAssertLessThanOrEqual(worst(latents, loop.at("latents").floats), 1e-5)
    }

    func testBytesOfPixelsAreRoundedToTheEvenNumber() throws {
        for one in try Golden.json("photos.json").at("float_to_byte").array {
            XCTAssertEqual(Int(Generator.byte(one.at("value").floats[0])), one.at("byte").integer)
        }
    }
}
