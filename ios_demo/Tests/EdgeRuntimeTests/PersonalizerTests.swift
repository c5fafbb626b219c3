import EdgeBundle
import EdgeRuntime
import EdgeSystem
import EdgeZO
import Foundation
import XCTest

final class PersonalizerTests: XCTestCase {
    private func options(_ steps: Int, _ preset: FitOptions.Preset = .fast) -> FitOptions {
        var options = FitOptions()
        (options.maxTrainSteps, options.evalDraws, options.preset) = (.count(steps), 4, preset)
        if preset == .paper { options.settings["subspace_buffer"] = .number(3) }
        return options
    }

    private func whole(_ options: FitOptions) async throws -> (steps: [Step], personalizer: Personalizer) {
        let personalizer = Personalizer(try Example.bundle(), FormulaLoader())
        var steps: [Step] = []
        for try await step in personalizer.fit(
            Example.photos, placeholder: "<mug>", initializer: "mug", options: options)
        {
            steps.append(step)
        }
        return (steps, personalizer)
    }

    func testARunLowersTheHeldOutLossAndKeepsOneGraphOpenAtATime() async throws {
        let loader = FormulaLoader(), personalizer = Personalizer(try Example.bundle(), loader)
        let learning = personalizer.fit(Example.photos, placeholder: "<mug>", initializer: "mug", options: options(4))
        XCTAssertEqual(loader.stillOpen, [], "nothing is done before the first step is asked for")
        var count = 0
        for try await step in learning {
            count += 1
            XCTAssertEqual(step.step, count)
            XCTAssertEqual(step.forwards, 33 * count)
            let word = try await personalizer.embedding()
            XCTAssertEqual(word.metadata["steps"], String(count))
            if count == 2 {
                var few = Generator.Options()
                few.steps = 2
                let pictures = try await personalizer.generate("a photo of <mug>", options: few)
                XCTAssertEqual(pictures.count, 1)
                XCTAssertEqual(loader.stillOpen, [])
            }
        }
        XCTAssertEqual(count, 4)
        XCTAssertEqual(loader.mostOpen, 1)
        XCTAssertFalse(loader.onMainThread)
        let (initial, final) = (await personalizer.lossInitial, await personalizer.lossFinal)
        XCTAssertLessThan(try XCTUnwrap(final), try XCTUnwrap(initial))
        await personalizer.close()
        XCTAssertEqual(loader.stillOpen, [])
    }

    /// Calls of three rows, filled up where fewer are left, as a bundle for one processor wants them.
    func testRowsOfATargetGiveWhatAnyNumberOfRowsDoes() async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let free = try await whole(options(3)), calls = Box(0)
        let bundle = try Example.bundleOfATarget(in: folder)
        let personalizer = Personalizer(bundle, FormulaLoader(beforeCall: { count in calls.change { $0 = count } }))
        var losses: [Double] = []
        for try await step in personalizer.fit(
            Example.photos, placeholder: "<mug>", initializer: "mug", options: options(3))
        { losses.append(step.loss) }
        XCTAssertEqual(losses, free.steps.map(\.loss))
        let (ours, theirs) = (try await personalizer.embedding(), try await free.personalizer.embedding())
        XCTAssertEqual(ours.vectors, theirs.vectors)
        let (initial, final) = (await personalizer.lossInitial, await free.personalizer.lossInitial)
        XCTAssertEqual(initial, final)
        XCTAssertEqual(calls.value, 3 * 11 + 2 * 2, "33 rows a step, and two times 4 draws, in calls of 3")
    }

    func testATokenOfOtherVectorsThanATargetTakesIsOneLine() async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        var options = options(3)
        options.numVectors = 2
        let personalizer = Personalizer(try Example.bundleOfATarget(in: folder), FormulaLoader())
        do {
            for try await _ in personalizer.fit(
                Example.photos, placeholder: "<mug>", initializer: "mug", options: options)
            { XCTFail("a step") }
            XCTFail("no error")
        } catch let error as EdgeSdkError {
            XCTAssertTrue(error.description.hasPrefix("num_vectors is 2; the graphs of "))
            XCTAssertTrue(error.description.hasSuffix("export a bundle with --num_vectors 2"))
        }
    }

    /// The app may be killed after any step: another process goes on from the last checkpoint to the same bits.
    func testARunGoesOnInAnotherProcessAfterAnyStep() async throws {
        for preset in FitOptions.Preset.allCases {
            let saved = Box<[[UInt8]]>([])
            var options = options(7, preset)
            (options.checkpointingSteps, options.checkpoint) = (1, { bytes in saved.change { $0.append(bytes) } })
            let (steps, first) = try await whole(options)
            let wanted = try await first.embedding()
            XCTAssertEqual(saved.value.count, 7)
            options.checkpoint = nil
            for (k, bytes) in saved.value.enumerated() {
                options.resume = bytes
                let (rest, second) = try await whole(options)
                XCTAssertEqual(rest.map(\.loss), steps.dropFirst(k + 1).map(\.loss))
                let learned = try await second.embedding()
                XCTAssertEqual(learned, wanted, "\(preset), stopped after step \(k + 1)")
                let (final, again) = (await first.lossFinal, await second.lossFinal)
                XCTAssertEqual(final, again)
            }
        }
    }

    /// Cancelled in the middle of a step, before any of its calls: the state is the last whole step's.
    func testCancellingTheTaskAtAnyCallLeavesAWholeState() async throws {
        let (steps, _) = try await whole(options(3))
        for call in [1, 2, 4, 6, 8, 11] {
            let task = Box<Task<Int, any Error>?>(nil), saved = Box<[UInt8]?>(nil)
            let loader = FormulaLoader { count in if count == call { task.value?.cancel() } }
            let personalizer = Personalizer(try Example.bundle(), loader)
            var options = options(3)
            options.maxBatch = 12  // a step has three calls, and one goes before
            options.checkpoint = { bytes in saved.change { $0 = bytes } }
            let learning = personalizer.fit(Example.photos, placeholder: "<mug>", initializer: "mug", options: options)
            let gate = DispatchSemaphore(value: 0)
            let running = Task<Int, any Error>.detached {
                gate.waitUntilOpen()
                var count = 0
                for try await _ in learning { count += 1 }
                return count
            }
            task.change { $0 = running }
            gate.signal()
            let count = try await running.value
            XCTAssertEqual(count, max(0, (call - 1) / 3), "cancelled at call \(call)")
            if call > 1 {
                let state = try Checkpoint.state(of: try XCTUnwrap(saved.value), path: "saved")
                XCTAssertEqual(state.step, count)
                let learned = try await personalizer.embedding()
                XCTAssertEqual(learned.metadata["steps"], String(count))
            }
            // Asked for again, by a task that is not cancelled, the run goes on to its end.
            var rest: [Double] = []
            for try await step in learning { rest.append(step.loss) }
            XCTAssertEqual(rest.count, 3 - count)
            XCTAssertEqual(rest, steps.dropFirst(count).map(\.loss))
        }
    }

    func testAutoEndsOnceTheHeldOutLossIsFlat() async throws {
        var options = options(1)
        (options.maxTrainSteps, options.settings["max_train_steps"]) = (.auto, nil)
        let (steps, personalizer) = try await whole(options)
        XCTAssertEqual(steps.count % 10, 0)
        XCTAssertLessThan(steps.count, 120)
        XCTAssertEqual(steps[0].steps, 120)
        let final = await personalizer.lossFinal
        XCTAssertNotNil(final)

        // Resumed at a look, it does not take that look again.
        let saved = Box<[[UInt8]]>([])
        (options.checkpointingSteps, options.checkpoint) = (10, { bytes in saved.change { $0.append(bytes) } })
        _ = try await whole(options)
        options.resume = saved.value[0]
        let (rest, _) = try await whole(options)
        XCTAssertEqual(rest.count, steps.count - 10)
    }

    func testAnotherRunTakesThePlaceOfTheFirst() async throws {
        let personalizer = Personalizer(try Example.bundle(), FormulaLoader())
        let first = personalizer.fit(Example.photos, placeholder: "<mug>", initializer: "mug", options: options(5))
        let iterator = first.makeAsyncIterator()
        _ = try await iterator.next()
        let second = personalizer.fit(Example.photos, placeholder: "<dog>", initializer: "dog", options: options(5))
        _ = try await second.makeAsyncIterator().next()
        let ended = try await iterator.next()
        XCTAssertNil(ended)
        let learned = try await personalizer.embedding()
        XCTAssertEqual(learned.token, "<dog>")
    }

    func testWhatCannotBeLearnedIsRefusedInOneLineBeforeTheFirstStep() async throws {
        typealias Change = (inout FitOptions) -> Void
        let saved = Box<[UInt8]?>(nil)
        var saving = options(2)
        saving.checkpoint = { bytes in saved.change { $0 = bytes } }
        _ = try await whole(saving)
        let bytes = try XCTUnwrap(saved.value)
        let cases: [(String, String, Change, String)] = [
            ("<mug>", "mug", { $0.numVectors = 0 }, "num_vectors is 0"),
            ("<mug>", "mug", { $0.maxBatch = 0 }, "max_batch is 0"),
            ("<mug>", "mug", { $0.evalDraws = 0 }, "eval_draws is 0"),
            ("<mug>", "mug", { $0.learnableProperty = "sound" }, "learnable_property"),
            ("<mug>", "mug", { $0.maxTrainSteps = .count(0) }, "max_train_steps is 0"),
            ("<mug>", "mug", { $0.settings["zo_samples"] = .number(0) }, "zo_samples is 0"),
            ("<mug>", "mug", { $0.settings["zo_samples"] = .number(4000) }, "there are 32 directions"),
            ("<mug>", "mug", { $0.settings["timestep_range"] = .list([.number(0), .number(5000)]) }, "timestep_range"),
            ("<mug>", "mug", { $0.settings["colour"] = .number(0) }, "colour"),
            ("two words", "mug", { _ in }, "one word"),
            ("mug", "mug", { _ in }, "mug"),
            ("<mug>", "xylophonesque words", { _ in }, "xylophonesque"),
            ("<mug>", "mug", { $0.resume = Array(bytes.dropLast()) }, "damaged"),
            (
                "<mug>", "mug",
                {
                    $0.resume = bytes; $0.seed = 1
                }, "other settings"
            ),
            (
                "<mug>", "mug",
                {
                    $0.resume = bytes; $0.maxTrainSteps = .count(9)
                }, "other settings"
            ),
            ("<cup>", "mug", { $0.resume = bytes }, "another token"),
            (
                "<mug>", "mug",
                {
                    $0.resume = bytes; $0.centerCrop = false
                }, "another photos"
            ),
        ]
        for (placeholder, initializer, change, what) in cases {
            var options = options(2)
            change(&options)
            let personalizer = Personalizer(try Example.bundle(), FormulaLoader())
            let learning = personalizer.fit(
                Example.photos, placeholder: placeholder, initializer: initializer, options: options)
            do {
                for try await _ in learning { XCTFail("a step in spite of \(what)") }
                XCTFail("\(what) is not refused")
            } catch {
                XCTAssertTrue(
                    error is EdgeSdkError && "\(error)".contains(what) && !"\(error)".contains("\n"),
                    "\(what): \(error)")
            }
        }
        let personalizer = Personalizer(try Example.bundle(), FormulaLoader())
        for try await _ in personalizer.fit([], placeholder: "<mug>", initializer: "mug").prefix(0) {}
        do {
            _ = try await personalizer.fit([], placeholder: "<mug>", initializer: "mug").makeAsyncIterator().next()
            XCTFail("no photo is not refused")
        } catch { XCTAssertTrue("\(error)".contains("no photo"), "\(error)") }
        do {
            _ = try await personalizer.embedding()
            XCTFail("an embedding before the first step")
        } catch { XCTAssertTrue("\(error)".contains("nothing has been learned yet"), "\(error)") }
    }

    func testRowsOfACallChangeNothing() async throws {
        var all: [[Double]] = []
        for rows in [1, 7, 64] {
            var options = options(3)
            (options.maxBatch, options.numVectors) = (rows, 2)
            all.append(try await whole(options).steps.map(\.loss))
        }
        XCTAssertEqual(all[0], all[1])
        XCTAssertEqual(all[0], all[2])
    }
}

/// A value that closures of other tasks change.
final class Box<Value: Sendable>: Sendable {
    private let lock = NSLock()
    nonisolated(unsafe) private var held: Value

    init(_ value: Value) { held = value }

    var value: Value { lock.withLock { held } }
    func change(_ body: (inout Value) -> Void) { lock.withLock { body(&held) } }
}

extension DispatchSemaphore {
    /// A wait that may stand in an asynchronous function: it ends at once in these tests.
    func waitUntilOpen() { wait() }
}
