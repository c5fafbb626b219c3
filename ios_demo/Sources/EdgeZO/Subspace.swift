/// The subspace gradient (the paper's equations 4 to 8): noise where the token has hardly moved is projected out. The twin
/// of `edge_sdk/zo/subspace.py`.

/// Directions that hold the last `threshold` share of the history's variance, orthonormal.
///
/// The history is centred, so at most tau - 1 components mean anything; those of no variance at all are left out.
///
/// - Parameter history: tau token values of d numbers.
public func lowVarianceDirections(_ history: [[Float]], threshold: Double) -> [[Float]] {
    let tau = Double(history.count)
    var rows = history.map { $0.map(Double.init) }
    for i in history[0].indices {  // equation 4
        let mean = rows.reduce(0) { $0 + $1[i] } / tau
        let std = (rows.reduce(0) { $0 + ($1[i] - mean) * ($1[i] - mean) } / tau).squareRoot()
        for row in rows.indices { rows[row][i] = (rows[row][i] - mean) / (std > 0 ? std : 1) }
    }
    let components = rightSingularVectors(rows)  // equation 5
    let total = components.reduce(0) { $0 + $1.value * $1.value }
    guard total > 0 else { return [] }
    let rank = components.prefix { $0.value > components[0].value * 1e-10 }.count
    var share = 0.0, kept = rank
    for (i, component) in components.enumerated() {  // equation 6: i*
        share += component.value * component.value
        if share / total > 1 - threshold {
            kept = i + 1
            break
        }
    }
    return components[min(kept, rank)..<rank].map { $0.vector.map(Float.init) }  // equation 7: the components after i*
}

/// Singular values and right singular vectors of a few rows, the largest first, by one-sided Jacobi rotations (Hestenes):
/// rows are turned in pairs until all are orthogonal.
private func rightSingularVectors(_ matrix: [[Double]]) -> [(value: Double, vector: [Double])] {
    var rows = matrix
    var turned = true, sweep = 0
    while turned && sweep < 60 {
        (turned, sweep) = (false, sweep + 1)
        for p in rows.indices {
            for q in rows.indices.dropFirst(p + 1) {
                let alpha = dot(rows[p], rows[p]), beta = dot(rows[q], rows[q]), gamma = dot(rows[p], rows[q])
                guard abs(gamma) > 1e-15 * (alpha * beta).squareRoot() else { continue }
                turned = true
                let zeta = (beta - alpha) / (2 * gamma)
                let t = (zeta < 0 ? -1 : 1) / (abs(zeta) + (1 + zeta * zeta).squareRoot())
                let c = 1 / (1 + t * t).squareRoot(), s = c * t
                for i in rows[p].indices {
                    let (x, y) = (rows[p][i], rows[q][i])
                    rows[p][i] = c * x - s * y
                    rows[q][i] = s * x + c * y
                }
            }
        }
    }
    return rows.map { row in
        let length = dot(row, row).squareRoot()
        return (length, row.map { $0 / length })
    }.sorted { $0.0 > $1.0 }
}

/// Collects token values and, every `buffer` of them, renews the directions to project out.
public struct Subspace: Equatable, Sendable {
    let buffer: Int, threshold: Double
    /// Fewer than tau token values since the last renewal.
    var history: [[Float]] = []
    /// P_nu; empty for the first tau steps.
    var removed: [[Float]] = []

    init(buffer: Int, threshold: Double) { (self.buffer, self.threshold) = (buffer, threshold) }

    /// g (I - P^T P), equation 8.
    func project(_ gradient: [Double]) -> [Double] {
        let p = removed.map { $0.map(Double.init) }
        let shares = p.map { dot(gradient, $0) }
        return gradient.indices.map { i in zip(shares, p).reduce(gradient[i]) { $0 - $1.0 * $1.1[i] } }
    }

    /// Records the token after an update.
    mutating func push(_ theta: [Float]) {
        guard buffer > 0 else { return }
        history.append(theta)
        if history.count == buffer {
            removed = lowVarianceDirections(history, threshold: threshold)
            history = []
        }
    }
}

/// The sum of the products of two rows of numbers.
func dot(_ x: [Double], _ y: [Double]) -> Double {
    x.withUnsafeBufferPointer { x in
        y.withUnsafeBufferPointer { y in
            var sum = 0.0
            for i in x.indices { sum += x[i] * y[i] }
            return sum
        }
    }
}
