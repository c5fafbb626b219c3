import EdgeZO
import TestSupport
import XCTest

final class DrawsTests: XCTestCase {
    func testDrawsOfStepsAndHeldOutDrawsEqualPythons() throws {
        let golden = try Golden.json("draws.json"), shape = golden.at("latents_shape").integers
        for (name, held) in [("draws", false), ("held_out", true)] {
            for one in golden.at(name).array {
                let objective = GoldenObjective(
                    images: one.at("images").integer, prompts: one.at("prompts").integer, latentsShape: shape)
                let range = one.at("timestep_range").integers, timesteps = range[0]..<range[1]
                let seed = one.at("seed").seed, count = one.at("count").integer
                let found =
                    held
                    ? heldOutDraws(objective, seed: seed, count: count, timesteps: timesteps)
                    : draws(
                        objective, seed: seed, step: UInt32(one.at("step").integer), count: count, timesteps: timesteps)
                XCTAssertEqual(found.count, one.at("draws").array.count)
                for (draw, wanted) in zip(found, one.at("draws").array) {
                    XCTAssertEqual(draw.image, wanted.at("image").integer)
                    XCTAssertEqual(draw.prompt, wanted.at("prompt").integer)
                    XCTAssertEqual(draw.timestep, wanted.at("timestep").integer)
                    XCTAssertLessThanOrEqual(ulps(draw.noise, wanted.at("noise").floats), NoiseTests.bound)
                    XCTAssertLessThanOrEqual(ulps(draw.latentNoise, wanted.at("latent_noise").floats), NoiseTests.bound)
                }
            }
        }
    }

    func testPerturbationsEqualPythons() throws {
        for one in try Golden.json("draws.json").at("perturbations").array {
            var config = ZoConfig.paper
            config.zoSamples = one.at("zo_samples").integer
            let found = perturbations(
                config, seed: one.at("seed").seed, step: UInt32(one.at("step").integer),
                size: one.at("shape").integers.reduce(1, *))
            XCTAssertLessThanOrEqual(ulps(found.flatMap(\.self), one.at("values").floats), NoiseTests.bound)
        }
    }

    func testDirectionsOfATokenEqualPythons() throws {
        for one in try Golden.json("draws.json").at("token_basis").array {
            let found = try directions(one.at("principal").rows, least: 2, numVectors: one.at("num_vectors").integer)
            XCTAssertEqual(found, one.at("rows").rows)
        }
        XCTAssertThrowsError(try directions([[1, 2, 3]], least: 2, numVectors: 1)) {
            XCTAssertEqual("\($0)", "zo_samples is 2; there are 1 directions to choose from")
        }
    }
}
