import EdgeBundle
import EdgeOrt
import EdgePhotos
import EdgeRuntime
import EdgeZO
import TestSupport
import XCTest

/// `bundle_runs.json`: whole runs on the golden bundle, on the real runtime.
final class BundleRunsTests: XCTestCase {
    private let golden = try! Golden.json("bundle_runs.json")

    override func setUpWithError() throws {
        #if os(Linux)
            try XCTSkipIf(ProcessInfo.processInfo.environment["EDGE_ORT_LIBRARY"] == nil, "EDGE_ORT_LIBRARY names no library")
        #endif
    }

    private func bundle() throws -> ModelBundle { try ModelBundle(Golden.folder.appendingPathComponent("bundle")) }

    private func photos(_ resolution: Int) throws -> [Photo] {
        try golden.at("photos").texts.map { try PhotoFile.decode(Golden.folder.appendingPathComponent($0), resolution: resolution) }
    }

    func testRunsRepeatPythons() async throws {
        let bundle = try bundle(), photos = try photos(bundle.manifest.resolution)
        let token = golden.at("placeholder_token").string!, word = golden.at("initializer_token").string!
        for one in golden.at("runs").array {
            var options = FitOptions()
            options.preset = FitOptions.Preset(rawValue: one.at("preset").string!)!
            options.seed = one.at("seed").seed
            options.numVectors = one.at("num_vectors").integer
            for (name, value) in one.at("change").entries! { options.settings[name] = value }
            let personalizer = Personalizer(bundle, OrtLoader(threads: 1))
            var steps: [Step] = []
            for try await step in personalizer.fit(photos, placeholder: token, initializer: word, options: options) {
                steps.append(step)
            }
            XCTAssertEqual(steps.count, one.at("steps").array.count)
            for (step, wanted) in zip(steps, one.at("steps").array) {
                XCTAssertEqual(step.loss, wanted.at("loss").number, accuracy: 1e-3 * wanted.at("loss").number)
                XCTAssertEqual(step.clamped, wanted.at("clamped").boolean)
                XCTAssertEqual(step.forwards, wanted.at("forwards").integer)
            }
            let (before, after) = (await personalizer.lossInitial!, await personalizer.lossFinal!)
            XCTAssertEqual(before, one.at("held_out_loss_before").number, accuracy: 1e-3 * before)
            XCTAssertEqual(after, one.at("held_out_loss_after").number, accuracy: 1e-3 * after)
            let vectors = try await personalizer.embedding().vectors, initial = one.at("initial").floats
            let moved = worst(one.at("vectors").floats, initial)
            XCTAssertLessThanOrEqual(worst(vectors, one.at("vectors").floats), 0.01 * moved)
        }
    }

    func testLatentsEqualPythons() throws {
        let bundle = try bundle(), side = bundle.manifest.resolution
        let pixels = try photos(side).map { photo in
            let square = photo.square(side), plane = side * side
            return (0..<(3 * plane)).map { Float(square.rgb[$0 % plane * 3 + $0 / plane]) / 127.5 - 1 }
        }
        let latents = try encode(pixels, bundle, OrtLoader(threads: 1))
        for (i, one) in golden.at("latents").array.enumerated() {
            XCTAssertLessThanOrEqual(worst(latents.mean[i], one.at("mean").floats), 1e-5)
            XCTAssertLessThanOrEqual(worst(latents.std[i], one.at("std").floats), 1e-5)
        }
    }

    func testPicturesOfALearnedWordEqualPythons() async throws {
        let bundle = try bundle(), one = golden.at("pictures")
        var options = Generator.Options()
        options.steps = one.at("num_inference_steps").integer
        options.guidanceScale = Float(one.at("guidance_scale").number)
        options.seed = one.at("seed").seed
        options.images = one.at("num_images").integer
        let run = golden.at("runs").array[one.at("vectors_of_run").integer]
        let word = try LearnedEmbedding(
            token: golden.at("placeholder_token").string!, vectors: run.at("vectors").floats, widths: bundle.widths)
        let pictures = try await Personalizer(bundle, OrtLoader(threads: 1)).generate(
            one.at("prompt").string!, words: [word], options: options)
        for (picture, wanted) in zip(pictures, one.at("rgb").texts) {
            let digits = Array(wanted.utf8)
            let bytes = stride(from: 0, to: digits.count, by: 2).map { UInt8(String(decoding: digits[$0...($0 + 1)], as: UTF8.self), radix: 16)! }
            let difference = zip(picture.rgb, bytes).map { abs(Int($0) - Int($1)) }.max()!
            XCTAssertEqual(picture.rgb.count, bytes.count)
            XCTAssertLessThanOrEqual(difference, 2)
        }
    }
}
