import Foundation
import XCTest

@testable import EdgeModel

@MainActor
final class ScreensTests: XCTestCase, @unchecked Sendable {
    func testABundleThatCannotBeUsedIsASentenceAndLeavesNothing() async throws {
        typealias Edit = (String) -> String
        let edits: [(Key, [String], Edit)] = [
            (
                .bundleOtherVersion, ["tiny"],
                { $0.replacingOccurrences(of: "\"schema_version\": 3", with: "\"schema_version\": 4") }
            ),
            (.bundleOtherRuntime, ["tiny"], { $0.replacingOccurrences(of: "\"onnx\"", with: "\"coreml\"") }),
            (
                .bundleCut, ["tiny", "weights.bin"],
                { $0.replacingOccurrences(of: "\"bytes\": 3", with: "\"bytes\": 4") }
            ),
            (
                .bundleCut, ["tiny", "gone.bin"],
                { $0.replacingOccurrences(of: "\"weights.bin\"", with: "\"gone.bin\"") }
            ),
            (
                .bundleRefused, ["tiny"],
                { $0.replacingOccurrences(of: "\"resolution\"", with: "\"refuse\": 1, \"resolution\"") }
            ),
            (.bundleRefused, ["tiny"], { String($0.dropLast(3)) }),
        ]
        for (key, arguments, edit) in edits {
            let bench = Bench()
            let model = bench.model()
            model.takeBundle(try bench.bundle(edit: edit))
            await model.settle()
            XCTAssertEqual(model.message?.key, key)
            XCTAssertEqual(model.message?.arguments, arguments)
            XCTAssertEqual(model.message?.arguments.count, key.arguments)
            XCTAssertEqual(bench.names(bench.shelf), [])
            XCTAssertNil(model.bundle)
        }
    }

    func testAFolderWithoutAManifestAndOneThatIsNotThere() async throws {
        let bench = Bench()
        let model = bench.model()
        let source = try bench.bundle()
        try FileManager.default.removeItem(at: source.appendingPathComponent("manifest.json"))
        model.takeBundle(source)
        await model.settle()
        XCTAssertEqual(model.message, Message(.bundleWithoutManifest, "tiny"))
        model.takeBundle(bench.folder.appendingPathComponent("nowhere"))
        await model.settle()
        XCTAssertEqual(model.message, Message(.sourceUnreadable, "nowhere"))
    }

    func testAFullPhoneIsASentence() async throws {
        let bench = Bench()
        bench.free.value = 51_000_001
        let model = bench.model()
        let source = try bench.bundle()
        try Data(count: 2_000_000).write(to: source.appendingPathComponent("weights.bin"))
        model.takeBundle(source)
        await model.settle()
        XCTAssertEqual(model.message, Message(.noSpace, "1"))
        XCTAssertEqual(bench.names(bench.shelf), [])
    }

    func testABundleInAFolderIsFoundAndASecondOneGetsANameOfItsOwn() async throws {
        let bench = Bench()
        let model = bench.model()
        let source = try bench.bundle("packed/tiny").deletingLastPathComponent()
        for _ in 0..<2 {
            model.takeBundle(source)
            await model.settle()
            XCTAssertEqual(model.message?.key, .bundleReady)
        }
        XCTAssertEqual(model.bundles.map(\.name), ["packed", "packed 2"])
        XCTAssertEqual(model.bundle?.initializer, "person")
        model.removeBundle("packed 2")
        XCTAssertEqual(model.bundle?.name, "packed")
    }

    func testACopyThatWasCutShortIsCleanedUp() async throws {
        let bench = Bench()
        try bench.write("1", to: bench.shelf.appendingPathComponent(".edge-sdk-x/weights.bin"))
        try bench.write("1", to: bench.session.appendingPathComponent(".edge-sdk-session.json"))
        let model = bench.model()
        XCTAssertEqual(model.bundles, [])
        XCTAssertEqual(bench.names(bench.shelf) + bench.names(bench.session), [])
    }

    func testUnreadablePhotosAreLeftOutAndCounted() async throws {
        let bench = Bench()
        let model = try await bench.ready(photos: 1)
        model.addPhotos([Data("photo".utf8), Data("text".utf8), nil])
        await model.settle()
        XCTAssertEqual(model.photos.count, 2)
        XCTAssertEqual(model.message, Message(.photosUnreadable, "2", "3"))
        model.addPhotos((0..<30).map { _ in Data("photo".utf8) })
        await model.settle()
        XCTAssertEqual(model.photos.count, 20)
        XCTAssertEqual(model.message, Message(.photosTooMany, "20"))
        model.removePhoto(0)
        XCTAssertEqual(bench.names(bench.session.appendingPathComponent("photos")).count, 19)
    }

    func testWhatIsChosenOutlivesTheProcess() async throws {
        let bench = Bench()
        let model = try await bench.ready()
        model.setInitializer("dog")
        model.hide()
        let next = bench.model()
        next.appear()
        XCTAssertEqual(next.word, "mug")
        XCTAssertEqual(next.initializer, "dog")
        XCTAssertEqual(next.bundle?.name, "tiny")
        XCTAssertEqual(next.photos, model.photos)
        XCTAssertTrue(next.canStart)
    }

    func testATornSessionIsANewOne() async throws {
        let bench = Bench()
        _ = try await bench.ready()
        try bench.write("{\"stage\": \"lear", to: bench.session.appendingPathComponent("session.json"))
        let model = bench.model()
        XCTAssertEqual(model.screen, .choosing)
        XCTAssertEqual(model.photos, [])
        XCTAssertEqual(bench.names(bench.session.appendingPathComponent("photos")), [])
    }

    func testAResultWithoutItsTokenIsNone() async throws {
        let bench = Bench()
        let model = try await bench.ready()
        model.start()
        await model.settle()
        try FileManager.default.removeItem(at: bench.session.appendingPathComponent("learned_embeds.safetensors"))
        let next = bench.model()
        XCTAssertEqual(next.screen, .choosing)
        XCTAssertEqual(next.photos.count, 2)
    }

    func testPicturesThatWereNotDrawnYetAreDrawnWhenTheAppComesBack() async throws {
        let bench = Bench()
        bench.engine.failsDrawing.value = true
        let model = try await bench.ready()
        model.start()
        await model.settle()
        XCTAssertEqual(model.screen, .result)
        XCTAssertEqual(model.message?.key, .pictureFailed)
        bench.engine.failsDrawing.value = false
        let next = bench.model()
        XCTAssertEqual(next.screen, .result)
        next.appear()
        await next.settle()
        XCTAssertNotNil(next.outcome.before)
        XCTAssertNotNil(next.outcome.after)
        XCTAssertEqual(next.outcome.lossAfter, 0.1)
    }

    func testOwnPromptsNeedTheWord() async throws {
        let bench = Bench()
        let model = try await bench.ready()
        model.start()
        await model.settle()
        model.draw("a photo of a mug")
        XCTAssertEqual(model.message, Message(.promptWithoutWord, "<mug>"))
        model.draw("<mug> on the moon")
        await model.settle()
        XCTAssertEqual(bench.engine.drawn.value.last, "<mug> on the moon")
        XCTAssertNotNil(model.outcome.own)
        model.keep()
        XCTAssertTrue(model.outcome.isKept)
        model.startAgain()
        XCTAssertEqual(model.screen, .choosing)
        XCTAssertEqual(model.word, "mug")
        XCTAssertEqual(bench.names(bench.session), ["photos", "session.json"])
    }

    func testMeasuringWritesARecordAndCanBeLeft() async throws {
        let bench = Bench()
        let model = try await bench.ready()
        model.showMeasuring()
        model.measure()
        await model.settle()
        XCTAssertEqual(model.message, Message(.measured, "device.json"))
        XCTAssertEqual(try String(contentsOf: XCTUnwrap(model.record), encoding: .utf8), #"{"schema_version": 1}"#)
        model.showMeasuring()
        model.measure()
        model.leaveMeasuring()
        await model.settle()
        XCTAssertEqual(model.screen, .choosing)
        XCTAssertNil(model.record)
    }

    func testDrawingsSurviveTheirFile() async {
        let drawing = Drawing(side: 2, rgb: Array(0..<12))
        XCTAssertEqual(Drawing(drawing.bytes), drawing)
        for bytes in [[], Array("P6\n2 2\n255\n".utf8), drawing.bytes.dropLast(), Array("P6\n-1 -1\n255\n".utf8)]
            as [[UInt8]]
        {
            XCTAssertNil(Drawing(bytes))
        }
    }

    func testEveryMessageAndPauseHasAKeyOfTheCatalog() async {
        XCTAssertEqual(Key.bundleOtherRuntime.resource, "message_bundle_other_runtime")
        XCTAssertEqual(Pause.lowPower.resource, "pause_low_power")
        XCTAssertEqual(Work(kind: .copyingBundle).resource, "work_copying_bundle")
    }
}
