/// The gradient estimate from forward passes alone (the paper's equation 3 and its central variant): the twin of
/// `edge_sdk/zo/estimator.py`.

/// What one step measured.
struct Estimate: Measurement {
    /// K D numbers.
    let gradient: [Double]
    /// Every loss that was measured.
    let losses: [Double]
    /// Mean loss near the embedding: the base losses, or the middles of the central pairs.
    let loss: Double
    /// Single-row evaluations.
    let forwards: Int
}

/// The n directions e_i of one step, K D standard normals each; the counter brings them back at any time.
public func perturbations(_ config: ZoConfig, seed: UInt64, step: UInt32, size: Int) -> [[Float]] {
    let all = normals(seed: seed, stream: .perturbation, step: step, count: config.zoSamples * size)
    return (0..<config.zoSamples).map { Array(all[($0 * size)..<(($0 + 1) * size)]) }
}

/// Estimates the gradient of the expected loss at theta.
///
/// Forward: g = 1/n sum_i [L(theta + mu e_i) - L(theta)] / mu * e_i (equation 3).
/// Central: g = 1/n sum_i [L(theta + mu e_i) - L(theta - mu e_i)] / (2 mu) * e_i.
/// Both sides of a difference see the same draws (image, noise, timestep, prompt).
///
/// - Parameter removed: how many directions the subspace projection takes away, for the optional normalization.
func estimate(
    _ objective: any Objective, _ theta: [Float], _ config: ZoConfig, seed: UInt64, step: UInt32, removed: Int,
    maxBatch: Int
) throws -> Estimate {
    let n = config.zoSamples, batch = config.trainBatchSize, mu = Float(config.zoMu)
    let e = perturbations(config, seed: seed, step: step, size: theta.count)
    let shared = config.zoDraws == .shared, central = config.zoDifference == .central
    let drawn = draws(
        objective, seed: seed, step: step, count: shared ? batch : n * batch, timesteps: config.timestepRange.range)
    let perDirection = shared ? (0..<n).flatMap { _ in drawn } : drawn  // n batch, direction by direction

    func rows(_ mu: Float) -> [[Float]] {
        e.flatMap { direction in
            let row = zip(theta, direction).map { $0 + mu * $1 }
            return (0..<batch).map { _ in row }
        }
    }
    let otherDraws = central ? perDirection : drawn
    let others = central ? rows(-mu) : otherDraws.map { _ in theta }
    let losses = try inCalls(objective.losses, rows(mu) + others, perDirection + otherDraws, maxBatch: maxBatch)

    let above = losses[..<(n * batch)], below = losses[(n * batch)...]
    // A base that all directions share is the same for each.
    let facing = (0..<(n * batch)).map { below[below.startIndex + $0 % below.count] }
    let slopes = (0..<n).map { i in
        let rows = (i * batch)..<((i + 1) * batch)
        let mean = rows.reduce(0) { $0 + (above[$1] - facing[$1]) } / Double(batch)
        return mean / Double(mu) / (central ? 2 : 1)
    }
    let middles = central ? zip(above, facing).map { ($0 + $1) / 2 } : Array(below)
    var gradient = [Double](repeating: 0, count: theta.count)
    for (slope, direction) in zip(slopes, e) {
        for i in gradient.indices { gradient[i] += slope * Double(direction[i]) }
    }
    gradient = gradient.map { $0 / Double(n) }
    if config.zoNormalize {
        let length = (Double(theta.count - removed + n - 1) / Double(n)).squareRoot()
        gradient = gradient.map { $0 / length }
    }
    return Estimate(
        gradient: gradient, losses: losses, loss: middles.reduce(0, +) / Double(middles.count), forwards: losses.count)
}
