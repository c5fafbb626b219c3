import Foundation
import XCTest

@testable import EdgeModel

@MainActor
final class LearningTests: XCTestCase, @unchecked Sendable {
    private let hot = Reading(thermal: .serious), cool = Reading(thermal: .nominal)

    /// The token of a run that nothing disturbs.
    private func undisturbed() async throws -> Data {
        let bench = Bench()
        let model = try await bench.ready()
        model.start()
        await model.settle()
        return try Data(contentsOf: XCTUnwrap(model.outcome.token))
    }

    func testThreeScreensFromPhotosToPictures() async throws {
        let bench = Bench()
        let model = try await bench.ready()
        XCTAssertTrue(model.canStart)
        model.start()
        XCTAssertEqual(model.screen, .learning)
        await model.settle()
        XCTAssertEqual(model.screen, .result)
        XCTAssertEqual(model.outcome.lossBefore, 0.2)
        XCTAssertEqual(model.outcome.lossAfter, 0.1)
        XCTAssertEqual(bench.engine.drawn.value, ["a photo of <mug>", "a photo of <mug>"])
        XCTAssertNotNil(model.outcome.before)
        XCTAssertNotEqual(model.outcome.before, model.outcome.after)
        XCTAssertNil(model.message)
    }

    func testARunKilledAfterAnyStepGoesOnToTheSameToken() async throws {
        let wanted = try await undisturbed()
        for step in 0...4 {
            let bench = Bench()
            let first = try await bench.ready()
            bench.engine.allowed.value = step
            first.start()
            await until("step \(step)") { first.learning.step == step }
            // The process ends here: what is on disk now is all that is left.
            let after = Bench()
            try FileManager.default.createDirectory(at: after.folder, withIntermediateDirectories: true)
            try FileManager.default.copyItem(at: bench.session, to: after.session)
            try FileManager.default.copyItem(at: bench.shelf, to: after.shelf)
            bench.engine.allowed.value = .max
            await first.settle()

            let second = after.model()
            XCTAssertEqual(second.screen, .learning)
            XCTAssertEqual(second.learning.phase, .paused)
            XCTAssertEqual(second.learning.pause, .interrupted)
            XCTAssertEqual(second.learning.step, step)
            XCTAssertTrue(second.wantsTime)
            second.appear()
            await second.settle()
            XCTAssertEqual(second.screen, .result, "killed after step \(step)")
            XCTAssertEqual(try Data(contentsOf: XCTUnwrap(second.outcome.token)), wanted, "killed after step \(step)")
        }
    }

    func testThePersonsPauseLastsUntilThePersonEndsIt() async throws {
        let bench = Bench()
        let model = try await bench.ready()
        bench.engine.allowed.value = 2
        model.start()
        await until("step 2") { model.learning.step == 2 }
        model.pause()
        XCTAssertEqual(model.learning.phase, .stopping)
        bench.engine.allowed.value = 3
        await model.settle()
        XCTAssertEqual(model.learning.phase, .paused)
        XCTAssertEqual(model.learning.step, 3)
        model.read(cool)
        model.appear()
        XCTAssertEqual(model.learning.pause, .person)
        XCTAssertFalse(model.wantsTime)
        let killed = bench.model()
        killed.appear()
        XCTAssertEqual(killed.learning.pause, .person)
        bench.engine.allowed.value = .max
        killed.goOn()
        await killed.settle()
        XCTAssertEqual(killed.screen, .result)
        let wanted = try await undisturbed()
        XCTAssertEqual(try Data(contentsOf: XCTUnwrap(killed.outcome.token)), wanted)
    }

    func testLearningRestsWhileThePhoneIsHotAndGoesOnByItself() async throws {
        for (bad, pause) in [
            (hot, Pause.hot), (Reading(thermal: .critical), .hot), (Reading(isLowPower: true), .lowPower),
        ] {
            let bench = Bench()
            let model = try await bench.ready()
            bench.engine.allowed.value = 1
            model.start()
            await until("step 1") { model.learning.step == 1 }
            model.read(bad)
            bench.engine.allowed.value = .max
            await model.settle()
            XCTAssertEqual(model.learning.phase, .paused)
            XCTAssertEqual(model.learning.pause, pause)
            XCTAssertEqual(model.learning.step, 2)
            model.goOn()  // the person may wish, the phone decides
            XCTAssertEqual(model.learning.pause, pause)
            let opened = bench.engine.opened.value
            model.read(cool)
            await model.settle()
            XCTAssertEqual(model.screen, .result)
            XCTAssertGreaterThan(bench.engine.opened.value, opened)  // at rest no model was in memory
        }
    }

    func testIOSInterruptsAndTheScreenBringsLearningBack() async throws {
        let bench = Bench()
        let model = try await bench.ready()
        bench.engine.allowed.value = 1
        model.start()
        await until("step 1") { model.learning.step == 1 }
        model.hide()
        model.interrupt()
        bench.engine.allowed.value = 2
        await model.settle()
        XCTAssertEqual(model.learning.pause, .interrupted)
        XCTAssertTrue(model.wantsTime)
        model.receiveTime()  // and again
        await until("time in the background") { model.learning.phase != .paused }
        model.interrupt()
        model.appear()  // before the step in hand has ended
        bench.engine.allowed.value = .max
        await model.settle()
        XCTAssertEqual(model.screen, .result)
        XCTAssertFalse(model.wantsTime)
    }

    func testFinishingEarlyKeepsWhatWasLearned() async throws {
        let bench = Bench()
        let model = try await bench.ready()
        bench.engine.allowed.value = 2
        model.start()
        await until("step 2") { model.learning.step == 2 }
        model.finish()
        bench.engine.allowed.value = 3
        await model.settle()
        XCTAssertEqual(model.screen, .result)
        let token = try Data(contentsOf: XCTUnwrap(model.outcome.token))
        XCTAssertTrue(String(decoding: token, as: UTF8.self).hasSuffix("of 3"))
        XCTAssertNil(model.outcome.lossAfter)
    }

    func testFinishingBeforeTheFirstStepLeadsBack() async throws {
        let bench = Bench()
        let model = try await bench.ready()
        model.read(hot)
        model.start()
        XCTAssertEqual(model.learning.pause, .hot)
        XCTAssertEqual(bench.engine.opened.value, 1)  // of the copy; none for learning
        model.finish()
        XCTAssertEqual(model.screen, .choosing)
        XCTAssertEqual(model.word, "mug")
        XCTAssertEqual(model.photos.count, 2)
    }

    func testARefusedWordLeadsBackAndSaysWhy() async throws {
        let bench = Bench()
        bench.engine.refusesWord.value = true
        let model = try await bench.ready()
        model.start()
        await model.settle()
        XCTAssertEqual(model.screen, .choosing)
        XCTAssertEqual(model.message?.key, .wordRefused)
        XCTAssertEqual(model.message?.arguments, ["<mug>"])
        XCTAssertEqual(bench.lines, ["<mug> is already a word of the model; choose another one"])
    }

    func testAFailingStepLosesNothingAndCanBeTriedAgain() async throws {
        let bench = Bench()
        bench.engine.failsAt.value = 3
        let model = try await bench.ready()
        model.start()
        await model.settle()
        XCTAssertEqual(model.learning.phase, .paused)
        XCTAssertEqual(model.learning.pause, .failed)
        XCTAssertEqual(model.learning.step, 2)
        XCTAssertEqual(model.message?.key, .learningFailed)
        bench.engine.failsAt.value = nil
        model.goOn()
        await model.settle()
        XCTAssertEqual(model.screen, .result)
    }

    func testADamagedStateIsSaid() async throws {
        let bench = Bench()
        let model = try await bench.ready()
        bench.engine.allowed.value = 1
        model.start()
        await until("step 1") { model.learning.step == 1 }
        model.pause()
        bench.engine.allowed.value = 2
        await model.settle()
        try bench.write("torn", to: bench.session.appendingPathComponent("state.safetensors"))
        model.goOn()
        await model.settle()
        XCTAssertEqual(model.message?.key, .stateRefused)
        XCTAssertEqual(model.learning.pause, .failed)
    }

    func testABundleThatChangedOrWentMeanwhileIsSaid() async throws {
        for key in [Key.bundleChanged, .bundleMissing] {
            let bench = Bench()
            let model = try await bench.ready()
            bench.engine.allowed.value = 1
            model.start()
            await until("step 1") { model.learning.step == 1 }
            model.pause()
            bench.engine.allowed.value = .max
            await model.settle()
            let manifest = bench.shelf.appendingPathComponent("tiny/manifest.json")
            if key == .bundleMissing {
                try FileManager.default.removeItem(at: bench.shelf.appendingPathComponent("tiny"))
            } else {
                try bench.write(String(decoding: Data(contentsOf: manifest), as: UTF8.self) + " ", to: manifest)
            }
            model.goOn()
            await model.settle()
            XCTAssertEqual(model.message?.key, key)
            XCTAssertEqual(model.message?.arguments, ["tiny"])
            XCTAssertEqual(model.learning.pause, .failed)
        }
    }
}
