import EdgeSystem
import EdgeZO
import TestSupport
import XCTest

final class LoopTests: XCTestCase {
    func testRunsOfEverySettingRepeatPythons() throws {
        let golden = try Golden.json("trajectory.json")
        for one in golden.at("runs").array { try repeats(GoldenRun(one), one) }
    }

    func testRunsOfTheOlderFormRepeatPythons() throws {
        let golden = try Golden.json("trajectory.json")
        for one in [golden] + golden.at("gauss_newton").at("runs").array {
            var run = try GoldenRun(one).run(), tokens = 0
            for token in one.at("tokens").array {
                let step = try XCTUnwrap(run.next())
                XCTAssertLessThanOrEqual(worst(run.state.embedding, token.floats), 1e-5)
                if let losses = one["losses"] { XCTAssertEqual(step.loss, losses.flat[tokens], accuracy: 1e-5) }
                tokens += 1
            }
            XCTAssertNil(try run.next())
        }
    }

    func testARunWithoutEnoughDirectionsDoesNotStart() {
        XCTAssertThrowsError(
            try RunState(.fast(vocabularyStd: 0.02, width: 4), seed: 0, embedding: [0, 0, 0, 0], shape: [1, 4])
        ) {
            XCTAssertEqual("\($0)", "gauss_newton needs 32 directions of shape [1, 4] or more")
        }
    }

    /// What the objective throws leaves the state of the last whole step, from which the run goes on.
    func testAnObjectiveThatThrowsLeavesTheStateWhole() throws {
        let one = try XCTUnwrap(try Golden.json("trajectory.json").at("runs").array.first { $0["principal"] != nil })
        let golden = try GoldenRun(one)
        var whole = golden.run()
        var broken = Run(
            Failing(golden.objective, after: 25), golden.state, normRange: golden.normRange, maxBatch: 2,
            parts: golden.parts)
        var steps = 0
        XCTAssertThrowsError(try { while try broken.next() != nil { steps += 1 } }())
        XCTAssertGreaterThan(steps, 0)
        for _ in 0..<steps { _ = try whole.next() }
        XCTAssertEqual(broken.state.embedding, whole.state.embedding)
        XCTAssertEqual(broken.state.step, steps)
    }

    private func repeats(_ golden: GoldenRun, _ one: Json) throws {
        let name = one.at("name").string!
        var run = golden.run()
        for (i, wanted) in one.at("steps").array.enumerated() {
            if let chosen = wanted["chosen"] {
                XCTAssertEqual(run.state.newton.choose(), chosen.integers, "\(name) \(i)")
            }
            let step = try XCTUnwrap(run.next(), name)
            XCTAssertLessThanOrEqual(worst(run.state.embedding, wanted.at("token").floats), 1e-5, "\(name) \(i)")
            let loss = wanted.at("loss").number, slope = wanted.at("grad_norm").number
            XCTAssertLessThanOrEqual(
                worst([step.loss], [loss]), 1e-5 * max(1, abs(loss.isNaN ? 0 : loss)), "\(name) \(i)")
            // A last bit of theta + mu e, in float32, is 1e-4 of a difference at the shortest mu here.
            XCTAssertLessThanOrEqual(
                worst([step.gradNorm], [slope]), 1e-3 * max(1, abs(slope.isNaN ? 0 : slope)), "\(name) \(i)")
            XCTAssertEqual(step.step, i + 1)
            XCTAssertEqual(step.forwards, wanted.at("forwards").integer, name)
            XCTAssertEqual(step.removed, wanted.at("removed").integer, name)
            XCTAssertEqual(step.skipped, wanted.at("skipped").boolean, name)
            XCTAssertEqual(step.clamped, wanted.at("clamped").boolean, name)
        }
        if one.at("ends").isNull {
            XCTAssertNil(try run.next(), name)
        } else {
            XCTAssertThrowsError(try run.next(), name) { XCTAssertTrue($0 is NonFiniteLossError) }
        }
        XCTAssertLessThanOrEqual(worst(run.state.result, one.at("result").floats), 1e-5, name)
    }
}

/// One run of `trajectory.json`, ready to start.
struct GoldenRun {
    let objective: GoldenObjective, state: RunState, normRange: [ClosedRange<Double>], parts: [Int], maxBatch: Int

    init(_ one: Json) throws {
        objective = GoldenObjective(one)
        let shape = objective.embeddingShape, config = try ZoConfig(json: one.at("config"))
        let basis =
            try one["principal"].map { try directions($0.rows, least: config.zoSamples, numVectors: shape[0]) } ?? []
        state = try RunState(
            config, seed: one.at("seed").seed,
            embedding: one["start"]?.floats ?? [Float](repeating: 0, count: shape[0] * shape[1]),
            shape: shape, basis: basis)
        parts = one["parts"]?.integers ?? []
        let ends = one["norm_range"]?.array.map(\.flat) ?? [[0], [1e6]]
        normRange = zip(ends[0], ends[1]).map { $0...$1 }
        maxBatch = one["max_batch"]?.integer ?? 4
    }

    /// The clock counts its readings, as the golden checkpoints' did.
    func run(from start: RunState? = nil) -> Run {
        let ticks = Ticks()
        return Run(
            objective, start ?? state, normRange: normRange, maxBatch: maxBatch, clock: { ticks.next() }, parts: parts)
    }
}

private final class Ticks {
    private var count = -1.0
    func next() -> Double {
        count += 1
        return count
    }
}

/// Throws at a call.
private final class Failing: Objective {
    private let inner: GoldenObjective
    private var left: Int

    init(_ inner: GoldenObjective, after calls: Int) { (self.inner, left) = (inner, calls) }

    var numImages: Int { inner.numImages }
    var numPrompts: Int { inner.numPrompts }
    var numTrainTimesteps: Int { inner.numTrainTimesteps }
    var latentsShape: [Int] { inner.latentsShape }
    var embeddingShape: [Int] { inner.embeddingShape }

    func losses(_ embeddings: [[Float]], _ draws: [Draw]) throws -> [Double] { inner.losses(embeddings, draws) }

    func residuals(_ embeddings: [[Float]], _ draws: [Draw]) throws -> [[Double]] {
        left -= 1
        guard left >= 0 else { throw EdgeSdkError("the graph is gone") }
        return inner.residuals(embeddings, draws)
    }
}
