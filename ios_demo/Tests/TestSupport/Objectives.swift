import EdgeSystem
import EdgeZO

/// The formulas of `trajectory.json`, so that no network is needed.
public struct GoldenObjective: Objective {
    public let numImages: Int, numPrompts: Int, latentsShape: [Int], embeddingShape: [Int]
    public let numTrainTimesteps = 1000
    private let quadratic: (curvature: [Double], tilt: Double)?
    private let leastSquares: (matrix: [[Double]], bend: Double, spread: Double)?
    private let target: [Double]
    private let brokenImages: [Int]

    /// A run of the file, in its older form too.
    public init(_ run: Json) {
        (numImages, numPrompts) = (run.at("images").integer, run.at("prompts").integer)
        latentsShape = run.at("latents_shape").integers
        embeddingShape = [run.at("target").array.count, run.at("target").array[0].array.count]
        target = run.at("target").flat
        brokenImages = run["broken_images"]?.integers ?? []
        quadratic = run["curvature"].map { ($0.flat, run.at("tilt").number) }
        leastSquares = run["matrix"].map {
            ($0.array.map(\.flat), run.at("bend").number, (run["spread"] ?? run.at("noise")).number)
        }
    }

    /// Draws alone, without a loss.
    public init(images: Int, prompts: Int, latentsShape: [Int]) {
        (numImages, numPrompts, self.latentsShape, embeddingShape) = (images, prompts, latentsShape, [1, 1])
        (quadratic, leastSquares, target, brokenImages) = (nil, nil, [], [])
    }

    public func losses(_ embeddings: [[Float]], _ draws: [Draw]) -> [Double] {
        guard let (curvature, tilt) = quadratic else {
            return residuals(embeddings, draws).map { $0.reduce(0) { $0 + $1 * $1 } / Double($0.count) }
        }
        return zip(embeddings, draws).map { theta, draw in
            guard !brokenImages.contains(draw.image) else { return .nan }
            let x = theta.map(Double.init), noise = draw.noise.map(Double.init)
            let bowl = x.indices.reduce(0) { $0 + 0.5 * curvature[$1] * (x[$1] - target[$1]) * (x[$1] - target[$1]) }
            return bowl + noise.reduce(0, +) / Double(noise.count) + tilt * noise[0] * x.reduce(0, +)
        }
    }

    public func residuals(_ embeddings: [[Float]], _ draws: [Draw]) -> [[Double]] {
        let (matrix, bend, spread) = leastSquares!
        return zip(embeddings, draws).map { theta, draw in
            let gap = zip(theta, target).map { Double($0) - $1 }
            return matrix.indices.map { m in
                guard !brokenImages.contains(draw.image) else { return .nan }
                let linear = gap.indices.reduce(0) { $0 + matrix[m][$1] * (gap[$1] + bend * gap[$1] * gap[$1]) }
                return linear + spread * Double(draw.noise[m])
            }
        }
    }
}
