import EdgeBundle
import EdgeOrt
import EdgePhotos
import EdgeRuntime
import EdgeSystem
import EdgeZO
import Foundation
import TestSupport
import XCTest

final class OrtTests: XCTestCase {
    override func setUpWithError() throws { try requireOnnxRuntime() }

    private func golden() throws -> ModelBundle { try ModelBundle(Golden.folder.appendingPathComponent("bundle")) }

    func testGoldenVectorsOfEveryBundleAreWithinTheirBounds() throws {
        for folder in [Golden.folder.appendingPathComponent("bundle"), SomeBundle.embedded] + SomeBundle.given {
            let bundle = try ModelBundle(folder)
            let outcomes = try GoldenCases(bundle).run(OrtLoader(threads: 1), runtime: "onnxruntime")
            XCTAssertEqual(Set(outcomes.map(\.graph)), Set(bundle.manifest.graphs.keys), folder.path)
            for one in outcomes {
                XCTAssertLessThanOrEqual(one.worst, one.bound, "\(folder.lastPathComponent) \(one.graph)")
                XCTAssertGreaterThan(one.bound, 0)
            }
        }
    }

    func testAGraphThatTheRuntimeDoesNotTakeIsRefusedInOneLine() throws {
        let one = try Golden.json("damaged.json").at("graph"), copy = try copyOfBundle(self)
        let target = copy.appendingPathComponent(one.at("to").string!)
        try Data(Golden.bytes(one.at("copy").string!)).write(to: target)
        for edit in one.at("replace").array {
            try replace(copy.appendingPathComponent("manifest.json"), edit.texts[0], edit.texts[1])
        }
        let bundle = try ModelBundle(copy)
        assertRefusal("cannot be loaded by onnxruntime") { try OrtGraph(bundle, "vae_encoder") }
    }

    func testSettingsThatCannotBeUsedAreRefusedInOneLine() throws {
        let edits = [
            ("\"enable_cpu_mem_arena\": false", "\"enable_cpu_mem_arena\": 3"),
            ("\"enable_cpu_mem_arena\": false", "\"graph_optimization_level\": \"most\""),
            ("\"enable_cpu_mem_arena\": false", "\"intra_op_num_threads\": 1000"),
            ("\"session.disable_quant_qdq\": \"0\"", "\"session.disable_quant_qdq\": 0"),
            ("\"format\": \"onnx\"", "\"format\": \"coreml\""),
        ]
        for (old, new) in edits {
            let copy = try copyOfBundle(self)
            try replace(copy.appendingPathComponent("manifest.json"), old, new)
            let bundle = try ModelBundle(copy)
            assertRefusal(new.contains("coreml") ? "a bundle for coreml" : "settings for onnxruntime") {
                try OrtGraph(bundle, "unet")
            }
        }
    }

    func testAClosedGraphRefusesAndWrongInputsAreOneLine() throws {
        let bundle = try golden(), graph = try OrtGraph(bundle, "vae_decoder", threads: 1)
        assertRefusal("cannot be run") {
            try graph.run(["latents": .float(shape: [1], data: [0])], outputs: ["pixels"])
        }
        assertRefusal("cannot be run") { try graph.run([:], outputs: ["pixels"]) }
        assertRefusal("cannot be run") { try graph.run([:], outputs: ["no such output"]) }
        graph.close()
        graph.close()
        assertRefusal("is closed") { try graph.run([:], outputs: ["pixels"]) }
        assertRefusal("has no graph") { try OrtGraph(bundle, "none") }
    }

    private func assertRefusal<Value>(_ words: String, _ body: () throws -> Value) {
        XCTAssertThrowsError(try body()) { error in
            XCTAssertTrue("\(error)".contains(words) && !"\(error)".contains("\n") && error is EdgeSdkError, "\(error)")
        }
    }

    func testRunsOnTheGoldenBundleEndWherePythonsDo() async throws {
        let golden = try Golden.json("bundle_runs.json"), bundle = try self.golden(), loader = OrtLoader(threads: 1)
        let photos = try golden.at("photos").texts.map {
            try PhotoFile.decode(Golden.folder.appendingPathComponent($0), resolution: bundle.manifest.resolution)
        }
        for run in golden.at("runs").array {
            var options = FitOptions()
            options.preset = .init(rawValue: run.at("preset").string!)!
            options.numVectors = run.at("num_vectors").integer
            options.seed = run.at("seed").seed
            for (name, value) in run.at("change").entries! { options.settings[name] = value }
            let personalizer = Personalizer(bundle, loader)
            var steps: [Step] = []
            let learning = personalizer.fit(
                photos, placeholder: golden.at("placeholder_token").string!,
                initializer: golden.at("initializer_token").string!, options: options)
            for try await step in learning { steps.append(step) }
            XCTAssertEqual(steps.count, run.at("steps").array.count)
            for (step, due) in zip(steps, run.at("steps").array) {
                assertNear(step.loss, due.at("loss").number)
                XCTAssertEqual(step.clamped, due.at("clamped").boolean)
                XCTAssertEqual(step.forwards, due.at("forwards").integer)
            }
            assertNear(try await value(personalizer.lossInitial), run.at("held_out_loss_before").number)
            assertNear(try await value(personalizer.lossFinal), run.at("held_out_loss_after").number)
            let (vectors, initial, due) = (
                try await personalizer.embedding().vectors, run.at("initial").floats, run.at("vectors").floats
            )
            XCTAssertLessThanOrEqual(worst(vectors, due), 0.01 * worst(due, initial))
        }
    }

    private func value(_ loss: Double?) throws -> Double { try XCTUnwrap(loss) }

    private func assertNear(_ loss: Double, _ due: Double) {
        XCTAssertLessThanOrEqual(abs(loss - due), 1e-3 * abs(due))
    }

    func testLatentsAndPicturesEqualPythons() throws {
        let golden = try Golden.json("bundle_runs.json"), bundle = try self.golden(), loader = OrtLoader(threads: 1)
        let pixels = try golden.at("latents").array.map {
            let file = Golden.folder.appendingPathComponent($0.at("file").string!)
            return try PhotoFile.decode(file, resolution: 8).square(bundle.manifest.resolution).pixels
        }
        let latents = try encode(pixels, bundle, loader)
        for (i, due) in golden.at("latents").array.enumerated() {
            XCTAssertLessThanOrEqual(worst(latents.mean[i], due.at("mean").floats), 1e-5)
            XCTAssertLessThanOrEqual(worst(latents.std[i], due.at("std").floats), 1e-5)
        }

        let due = golden.at("pictures")
        var options = Generator.Options()
        options.steps = due.at("num_inference_steps").integer
        options.guidanceScale = due.at("guidance_scale").floats[0]
        options.seed = due.at("seed").seed
        options.images = due.at("num_images").integer
        let vectors = golden.at("runs").array[due.at("vectors_of_run").integer].at("vectors").floats
        let word = LearnedWord(token: golden.at("placeholder_token").string!, vectors: vectors)
        let pictures = try Generator(BundleText(bundle), loader: loader)
            .pictures(due.at("prompt").string!, words: [word], options: options)
        XCTAssertEqual(pictures.count, options.images)
        for (picture, hex) in zip(pictures, due.at("rgb").texts) {
            let digits = Array(hex.utf8)
            let rgb = stride(from: 0, to: digits.count, by: 2).map {
                Int(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)!
            }
            XCTAssertEqual(picture.rgb.count, rgb.count)
            XCTAssertLessThanOrEqual(zip(picture.rgb, rgb).map { abs(Int($0) - $1) }.max()!, 2)
        }
    }
}
