import EdgeSystem
import Foundation

/// The whole method on one screen: perturb, measure, estimate, denoise, step. The twin of `edge_sdk/zo/loop.py`.

/// The loss was not finite many times in a row; the state still holds the last good token.
public struct NonFiniteLossError: Error, Equatable, Sendable, CustomStringConvertible, LocalizedError {
    /// Steps in a row, up to this step.
    public let steps: Int, step: Int

    public var description: String { "the loss was not finite \(steps) steps in a row, up to step \(step)" }
    public var errorDescription: String? { description }
}

/// All that a run is: a value, replaced only when a step is complete. (`State` is a property wrapper of SwiftUI.)
public struct RunState: Equatable, Sendable {
    public let config: ZoConfig
    public let seed: UInt64
    /// K, D.
    public let shape: [Int]
    /// The master token, K D numbers: the vectors divided by the model's scale.
    public var embedding: [Float]
    public internal(set) var step = 0
    public internal(set) var forwards = 0
    public internal(set) var seconds = 0.0
    /// The floor of mu that was measured before the run; NaN if none was.
    public let muMin: Double
    public internal(set) var newton: GaussNewton
    var adam: Adam
    var subspace: Subspace
    /// Of the tokens of the tail, K D numbers.
    var averageSum: [Double]
    var averageCount = 0
    /// In a row.
    var badSteps = 0

    /// A fresh run from an initial token.
    ///
    /// - Parameters:
    ///   - shape: K, D.
    ///   - basis: the directions of Gauss-Newton, at least `zoSamples` of K D numbers.
    /// - Throws: `EdgeSdkError` for settings out of range, or too few directions.
    public init(
        _ config: ZoConfig, seed: UInt64, embedding: [Float], shape: [Int], muMin: Double = .nan, basis: [[Float]] = []
    ) throws {
        try config.check()
        let newton = config.optimizer == .gaussNewton
        guard !newton || (basis.count >= config.zoSamples && basis.allSatisfy { $0.count == embedding.count }) else {
            throw EdgeSdkError("gauss_newton needs \(config.zoSamples) directions of shape \(shape) or more")
        }
        guard shape.count == 2, shape[0] * shape[1] == embedding.count else {
            throw EdgeSdkError("the embedding has \(embedding.count) numbers, which is no shape \(shape)")
        }
        (self.config, self.seed, self.embedding, self.shape, self.muMin) = (config, seed, embedding, shape, muMin)
        adam = Adam(config, size: embedding.count)
        subspace = Subspace(buffer: config.subspaceBuffer, threshold: config.subspaceThreshold)
        self.newton = GaussNewton(config, basis: newton ? basis : [])
        averageSum = embedding.map { _ in 0 }
    }

    /// The token to use, K D numbers: the tail average once there is one, else the current token.
    public var result: [Float] {
        averageCount > 0 ? averageSum.map { Float($0 / Double(averageCount)) } : embedding
    }

    /// Equal in every bit; two floors of mu that were not measured are equal.
    public static func == (a: RunState, b: RunState) -> Bool {
        a.config == b.config && a.seed == b.seed && a.shape == b.shape && a.embedding == b.embedding
            && a.step == b.step && a.forwards == b.forwards && a.seconds == b.seconds
            && (a.muMin == b.muMin || (a.muMin.isNaN && b.muMin.isNaN)) && a.newton == b.newton && a.adam == b.adam
            && a.subspace == b.subspace && a.averageSum == b.averageSum && a.averageCount == b.averageCount
            && a.badSteps == b.badSteps
    }
}

/// One finished step.
public struct Step: Equatable, Sendable {
    /// From 1; and how many the whole run has.
    public let step: Int, steps: Int
    /// Mean over the draws of this step; NaN if the step was skipped.
    public let loss: Double
    /// The token to use if the run ended now, K D numbers.
    public let embedding: [Float]
    /// Single-row evaluations since the start of the run.
    public let forwards: Int
    /// Time since the start of the run, resumed parts included; and what is expected to the last step.
    public let seconds: Double, etaSeconds: Double
    /// After the projection, or in the directions of Gauss-Newton; NaN if the step was skipped.
    public let gradNorm: Double
    /// Directions projected out.
    public let removed: Int
    /// A loss was not finite: the token did not change.
    public let skipped: Bool
    /// The norm was brought back into the vocabulary's range.
    public let clamped: Bool
}

/// Steps from a state until `maxTrainSteps`. May be left after any step and continued from `state` with the same result.
public struct Run {
    /// After the last whole step, also where `next` has thrown.
    public private(set) var state: RunState
    private let objective: any Objective
    private let normRange: [ClosedRange<Double>]
    private let maxBatch: Int
    private let clock: () -> Double
    private let parts: [Int]
    private var pace: [Double] = []
    private var failure: NonFiniteLossError?

    /// - Parameters:
    ///   - normRange: of the Euclidean norm of a vector, or of each of its parts: the vocabulary's range.
    ///   - maxBatch: rows a call of the objective.
    ///   - clock: in seconds.
    ///   - parts: widths of the parts of a vector that each have a norm of their own; none: the vector is one.
    public init(
        _ objective: any Objective, _ state: RunState, normRange: [ClosedRange<Double>] = [0...(.infinity)],
        maxBatch: Int = 64, clock: @escaping () -> Double = { ProcessInfo.processInfo.systemUptime }, parts: [Int] = []
    ) {
        (self.objective, self.state, self.maxBatch, self.clock) = (objective, state, maxBatch, clock)
        self.parts = parts.isEmpty ? [state.shape[1]] : parts
        self.normRange = normRange.count == 1 ? self.parts.map { _ in normRange[0] } : normRange
    }

    /// Takes a step; nil after the last one.
    ///
    /// - Throws: `NonFiniteLossError` after `maxBadSteps` steps in a row without a finite loss, or what the objective throws.
    public mutating func next() throws -> Step? {
        if let failure { throw failure }
        let config = state.config
        guard state.step < config.maxTrainSteps else { return nil }
        let started = clock()
        var after = state
        let removed = state.subspace.removed.count
        let measured = try measure()
        let skipped = !measured.losses.allSatisfy(\.isFinite)
        var clamped = false, slope = Double.nan
        if skipped {
            after.badSteps += 1
        } else {
            (slope, clamped) = advance(&after, measured)
            after.badSteps = 0
            if Double(after.step + 1) > config.averageFrom * Double(config.maxTrainSteps) {
                after.averageSum = zip(after.averageSum, after.embedding).map { $0 + Double($1) }
                after.averageCount += 1
            }
        }
        after.step += 1
        after.forwards += measured.forwards
        let elapsed = clock() - started
        after.seconds += elapsed
        pace = pace.suffix(19) + [elapsed]
        state = after
        if state.badSteps >= config.maxBadSteps {
            failure = NonFiniteLossError(steps: state.badSteps, step: state.step)
        }
        return Step(
            step: state.step, steps: config.maxTrainSteps, loss: skipped ? .nan : measured.loss,
            embedding: state.result, forwards: state.forwards, seconds: state.seconds,
            etaSeconds: Double(config.maxTrainSteps - state.step) * median(pace), gradNorm: slope, removed: removed,
            skipped: skipped, clamped: clamped)
    }

    private func measure() throws -> any Measurement {
        let config = state.config, seed = state.seed, step = UInt32(state.step)
        if config.optimizer == .gaussNewton {
            let chosen = state.newton.choose().map { state.newton.basis[$0] }
            return try linearize(
                objective, state.embedding, chosen, config, seed: seed, step: step, maxBatch: maxBatch)
        }
        return try estimate(
            objective, state.embedding, config, seed: seed, step: step, removed: state.subspace.removed.count,
            maxBatch: maxBatch)
    }

    /// Takes a step; the norm of the gradient it was taken on, and whether the token's norm was brought back.
    private func advance(_ state: inout RunState, _ measured: any Measurement) -> (slope: Double, clamped: Bool) {
        let before = state.embedding, gradient: [Double], token: [Float], clamped: Bool
        let linearization = measured as? Linearization
        if let linearization {
            gradient = linearization.slope
            token = state.newton.update(before, linearization)
        } else {
            gradient = state.subspace.project((measured as! Estimate).gradient)
            token = state.adam.update(before, gradient, step: state.step)
        }
        (state.embedding, clamped) = clampNorms(token, normRange, parts: parts)
        if linearization != nil { state.newton.carry(from: before, to: state.embedding) }
        state.subspace.push(state.embedding)
        return (dot(gradient, gradient).squareRoot(), clamped)
    }
}

/// What one step has measured, by either optimizer.
protocol Measurement {
    /// Of every row that was evaluated.
    var losses: [Double] { get }
    /// Mean near the token.
    var loss: Double { get }
    /// Single-row evaluations.
    var forwards: Int { get }
}

/// Rescales every part of a vector whose norm is out of range; says whether one was.
func clampNorms(_ token: [Float], _ normRange: [ClosedRange<Double>], parts: [Int]) -> ([Float], clamped: Bool) {
    var out = token, clamped = false, start = 0
    while start < token.count {
        for (width, range) in zip(parts, normRange) {
            let piece = token[start..<(start + width)].map(Double.init)
            let norm = dot(piece, piece).squareRoot(), wanted = min(max(norm, range.lowerBound), range.upperBound)
            if wanted != norm {
                clamped = true
                out.replaceSubrange(
                    start..<(start + width), with: piece.map { Float($0 * (wanted / max(norm, 1e-12))) })
            }
            start += width
        }
    }
    return (out, clamped)
}

private func median(_ values: [Double]) -> Double {
    let sorted = values.sorted(), middle = values.count / 2
    return values.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
