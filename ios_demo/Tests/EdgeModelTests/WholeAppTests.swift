import EdgeBundle
import EdgeOrt
import EdgeRuntime
import Foundation
import TestSupport
import XCTest

@testable import EdgeModel

/// ONNX Runtime with a pause before each call, or the small model's run would be over before it can be interrupted.
private struct SlowLoader: GraphLoader {
    let pause: UInt32  // in microseconds

    func open(_ bundle: ModelBundle, _ name: String) throws -> any Graph {
        SlowGraph(graph: try OrtLoader().open(bundle, name), pause: pause)
    }
}

private final class SlowGraph: Graph {
    let graph: any Graph, pause: UInt32

    init(graph: any Graph, pause: UInt32) { (self.graph, self.pause) = (graph, pause) }

    func run(_ inputs: [String: Tensor], outputs: [String]) throws -> [String: FloatTensor] {
        usleep(pause)
        return try graph.run(inputs, outputs: outputs)
    }

    func close() { graph.close() }
}

/// The app's state on the real library: the golden bundle, real photos, ONNX Runtime.
@MainActor
final class WholeAppTests: XCTestCase, @unchecked Sendable {
    private func app(in folder: URL, pause: UInt32 = 0) -> AppModel {
        let machine = DeviceMeasurement.Machine(name: "here", system: "a system", cpu: "2 x some", onnxruntime: nil)
        let engine = BundleEngine(formats: ["onnx"], machine: machine) { _ in SlowLoader(pause: pause) }
        return AppModel(
            shelf: Shelf(folder.appendingPathComponent("bundles"), engine: engine),
            store: SessionStore(folder.appendingPathComponent("session")), engine: engine, decoder: FileDecoder(),
            makeSeed: { 3 }, log: { print($0) })
    }

    private func started(in folder: URL, pause: UInt32 = 0) async throws -> AppModel {
        let model = app(in: folder, pause: pause)
        model.appear()
        model.takeBundle(Golden.folder.appendingPathComponent("bundle"))
        await model.settle()
        XCTAssertEqual(model.message?.key, .bundleReady)
        model.addPhotos(
            try ["photo_wide.png", "photo_turned.png"].map { Data(try Golden.bytes($0)) } + [Data("no".utf8)])
        await model.settle()
        XCTAssertEqual(model.message, Message(.photosUnreadable, "1", "3"))
        model.setWord("<zebra-mug>")
        XCTAssertTrue(model.canStart)
        model.start()
        return model
    }

    func testAnInterruptedRunEndsAtTheTokenOfAnUndisturbedOne() async throws {
        try requireOnnxRuntime()
        let folder = try temporaryFolder(self)
        let whole = try await started(in: folder.appendingPathComponent("whole"))
        await whole.settle()
        XCTAssertEqual(whole.screen, .result, "\(String(describing: whole.message))")
        XCTAssertNotNil(whole.outcome.lossBefore)
        XCTAssertNotNil(whole.outcome.lossAfter)
        XCTAssertNotEqual(whole.outcome.before, whole.outcome.after)
        let token = try Data(contentsOf: XCTUnwrap(whole.outcome.token))
        XCTAssertEqual(try LearnedEmbedding(Array(token), name: "t.safetensors").token, "<zebra-mug>")

        let other = folder.appendingPathComponent("other")
        let first = try await started(in: other, pause: 50_000)
        await until("a step") { first.learning.step >= 2 }
        first.hide()
        first.interrupt()
        await first.settle()
        XCTAssertEqual(first.learning.pause, .interrupted)
        let second = app(in: other)  // the process began anew
        XCTAssertEqual(second.learning.step, first.learning.step)
        second.appear()
        await second.settle()
        XCTAssertEqual(second.screen, .result)
        XCTAssertEqual(try Data(contentsOf: XCTUnwrap(second.outcome.token)), token)
        XCTAssertEqual(second.outcome.lossAfter, whole.outcome.lossAfter)
        second.draw("<zebra-mug> on the moon")
        await second.settle()
        XCTAssertNotNil(second.outcome.own)
    }
}
