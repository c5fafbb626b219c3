import EdgeSystem
import Foundation

/// Gauss-Newton from forward passes alone: the twin of `edge_sdk/zo/gauss_newton.py`, which explains it.

/// The directions for a token of K vectors, K D numbers each: direction j moves vector j mod K along principal direction
/// j div K.
///
/// - Parameters:
///   - principal: orthogonal rows of D numbers.
///   - least: how many a step takes.
/// - Throws: `EdgeSdkError` if there are fewer.
public func directions(_ principal: [[Float]], least: Int, numVectors: Int) throws -> [[Float]] {
    let count = numVectors * principal.count
    guard least <= count else {
        throw EdgeSdkError("zo_samples is \(least); there are \(count) directions to choose from")
    }
    return (0..<count).map { j in
        let row = principal[j / numVectors]
        var direction = [Float](repeating: 0, count: numVectors * row.count)
        direction.replaceSubrange(((j % numVectors) * row.count)..<((j % numVectors + 1) * row.count), with: row)
        return direction
    }
}

/// The loss of one step's draws near the token, as a quadratic of the directions' coefficients.
struct Linearization: Measurement {
    /// n numbers, and n rows of n.
    let slope: [Double], curvature: [[Double]]
    /// Of every row that was evaluated; of each draw the token itself comes first.
    let losses: [Double]
    /// Mean over the draws, of the token itself.
    let loss: Double
    /// Single-row evaluations.
    let forwards: Int
}

/// Measures the residuals at a token and a little way along every direction.
///
/// - Parameter basis: n directions, orthogonal; a perturbation is `zoMu` times one.
func linearize(
    _ objective: any Objective, _ theta: [Float], _ basis: [[Float]], _ config: ZoConfig, seed: UInt64, step: UInt32,
    maxBatch: Int
) throws -> Linearization {
    let n = basis.count, batch = config.trainBatchSize, mu = Float(config.zoMu)
    let rows = [theta] + basis.map { e in zip(theta, e).map { $0 + mu * $1 } }
    var slope = [Double](repeating: 0, count: n), curvature = basis.map { _ in [Double](repeating: 0, count: n) }
    var losses: [Double] = [], base = 0.0
    for one in draws(objective, seed: seed, step: step, count: batch, timesteps: config.timestepRange.range) {
        // n + 1 rows of M
        let residuals = try inCalls(objective.residuals, rows, rows.map { _ in one }, maxBatch: maxBatch)
        let here = residuals[0]
        let jacobian = residuals.dropFirst().map { there in zip(there, here).map { ($0 - $1) / Double(mu) } }
        let share = 2 / Double(here.count * batch)
        for i in 0..<n {
            slope[i] += share * dot(jacobian[i], here)
            for j in 0...i {
                curvature[i][j] += share * dot(jacobian[i], jacobian[j])
                curvature[j][i] = curvature[i][j]
            }
        }
        let measured = residuals.map { dot($0, $0) / Double($0.count) }
        losses += measured
        base += measured[0] / Double(batch)
    }
    return Linearization(slope: slope, curvature: curvature, losses: losses, loss: base, forwards: (n + 1) * batch)
}

/// The sum of all draws' quadratic models at the current token; later draws weigh more (`memory`).
///
/// Where there are more directions than a step takes, half of a step's are those that promise the largest decrease, the
/// others those that were not looked at for the longest time.
public struct GaussNewton: Equatable, Sendable {
    let config: ZoConfig
    /// R directions of K D numbers, orthogonal.
    public let basis: [[Float]]
    /// R numbers, and R rows of R.
    var slope: [Double], curvature: [[Double]]
    /// The linearization that each direction was last in, from 1.
    var seen: [Int]
    /// Linearizations so far.
    var count = 0

    init(_ config: ZoConfig, basis: [[Float]]) {
        (self.config, self.basis) = (config, basis)
        slope = basis.map { _ in 0 }
        curvature = basis.map { _ in basis.map { _ in 0 } }
        seen = basis.map { _ in 0 }
    }

    /// The directions of the next step, ascending; all of them where there are no more than n.
    public func choose() -> [Int] {
        let n = config.zoSamples
        var kept: [Int] = []
        if seen.allSatisfy({ $0 > 0 }) {
            let diagonal = basis.indices.map { curvature[$0][$0] }
            let least = config.damping * (diagonal.reduce(0, +) / Double(diagonal.count))
            let gain = basis.indices.map { slope[$0] * slope[$0] / max(diagonal[$0] + least, 1e-300) }
            kept = Array(basis.indices.sorted { gain[$0] > gain[$1] }.prefix(n / 2))  // sorted is stable
        }
        let waiting = basis.indices.sorted { seen[$0] < seen[$1] }.filter { !kept.contains($0) }
        return (kept + waiting).prefix(n).sorted()
    }

    /// Takes up the linearization in the directions of `choose`; the next token.
    mutating func update(_ theta: [Float], _ found: Linearization) -> [Float] {
        let chosen = choose(), n = chosen.count
        count += 1
        let weight = pow(Double(count), config.memory)
        for (a, i) in chosen.enumerated() {
            slope[i] += weight * found.slope[a]
            for (b, j) in chosen.enumerated() { curvature[i][j] += weight * found.curvature[a][b] }
            seen[i] = count
        }
        let damping = config.damping * chosen.reduce(0) { $0 + curvature[$1][$1] } / Double(n)
        guard damping > 0 else { return theta }  // the token makes no difference to these draws
        let damped = chosen.map { i in chosen.map { j in curvature[i][j] + (i == j ? damping : 0) } }
        var move = solve(damped, chosen.map { -slope[$0] })
        let shrink = min(1, config.trustRadius / max(dot(move, move).squareRoot(), 1e-300))
        move = move.map { shrink * $0 }
        return theta.indices.map { k in
            Float(Double(theta[k]) + zip(move, chosen).reduce(0) { $0 + $1.0 * Double(basis[$1.1][k]) })
        }
    }

    /// Moves the models' origin from one token to another, which differ by a combination of the directions.
    mutating func carry(from before: [Float], to after: [Float]) {
        let difference = zip(after, before).map { Double($0) - Double($1) }
        let along = basis.map { row in
            let e = row.map(Double.init)
            return dot(e, difference) / dot(e, e)
        }
        slope = zip(slope, curvature).map { $0 + dot($1, along) }
    }
}

/// x of A x = b for a symmetric, positive definite A, by Cholesky's A = L L^T.
private func solve(_ a: [[Double]], _ b: [Double]) -> [Double] {
    let n = b.count
    var l = a, x = b
    for i in 0..<n {
        for j in 0...i {
            let left = (0..<j).reduce(a[i][j]) { $0 - l[i][$1] * l[j][$1] }
            l[i][j] = i == j ? left.squareRoot() : left / l[j][j]
        }
    }
    for i in 0..<n { x[i] = ((0..<i).reduce(x[i]) { $0 - l[i][$1] * x[$1] }) / l[i][i] }
    for i in (0..<n).reversed() { x[i] = (((i + 1)..<n).reduce(x[i]) { $0 - l[$1][i] * x[$1] }) / l[i][i] }
    return x
}
