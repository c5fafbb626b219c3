import Foundation

/// Adam on one small array, in `Double` so that a checkpoint continues bit for bit: the twin of
/// `edge_sdk/zo/optimizer.py`.
///
/// m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; theta <- theta - rate m^ / (sqrt(v^) + eps), bias-corrected.
public struct Adam: Equatable, Sendable {
    let config: ZoConfig
    /// K D numbers each.
    var m: [Double], v: [Double]
    /// Updates so far.
    var count = 0

    init(_ config: ZoConfig, size: Int) {
        self.config = config
        m = [Double](repeating: 0, count: size)
        v = m
    }

    /// The next token; `step`, from 0, sets the learning rate only.
    mutating func update(_ theta: [Float], _ gradient: [Double], step: Int) -> [Float] {
        let b1 = config.adamBeta1, b2 = config.adamBeta2
        count += 1
        m = zip(m, gradient).map { b1 * $0 + (1 - b1) * $1 }
        v = zip(v, gradient).map { b2 * $0 + (1 - b2) * ($1 * $1) }
        let share1 = 1 - pow(b1, Double(count)), share2 = 1 - pow(b2, Double(count))
        let rate = learningRate(config, step: step)
        return theta.indices.map { i in
            Float(Double(theta[i]) - rate * (m[i] / share1) / ((v[i] / share2).squareRoot() + config.adamEps))
        }
    }
}

/// What a cosine schedule ends at, as a share of the learning rate.
private let endFactor = 0.1

/// The step size of a step, from 0.
func learningRate(_ config: ZoConfig, step: Int) -> Double {
    guard config.lrSchedule == .cosine else { return config.learningRate }
    let share = min(1, Double(step) / Double(config.maxTrainSteps))
    return config.learningRate * (endFactor + (1 - endFactor) * 0.5 * (1 + cos(Double.pi * share)))
}
