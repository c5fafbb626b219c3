/// What the optimizer sees of a model, and how draws are drawn: the twin of `edge_sdk/zo/draws.py`.

/// One random choice of everything but the embedding. The same draw on both sides of a difference is what makes the
/// difference meaningful (common random numbers).
public struct Draw: Equatable, Sendable {
    /// Which training image, which prompt.
    public let image: Int, prompt: Int
    /// 0 <= timestep < numTrainTimesteps.
    public let timestep: Int
    /// (C, h, w): the diffusion noise, and the noise that picks the sample of the VAE's posterior.
    public let noise: [Float], latentNoise: [Float]

    public init(image: Int, prompt: Int, timestep: Int, noise: [Float], latentNoise: [Float]) {
        (self.image, self.prompt, self.timestep) = (image, prompt, timestep)
        (self.noise, self.latentNoise) = (noise, latentNoise)
    }
}

/// A model as a function. Arrays are flat, the last index runs fastest.
public protocol Objective {
    var numImages: Int { get }
    var numPrompts: Int { get }
    var numTrainTimesteps: Int { get }
    /// C, h, w.
    var latentsShape: [Int] { get }
    /// K, D: vectors of the token, and their width.
    var embeddingShape: [Int] { get }

    /// B embeddings of K D numbers on B draws; the loss of each row depends on nothing but that row.
    func losses(_ embeddings: [[Float]], _ draws: [Draw]) throws -> [Double]

    /// What the losses are the mean squares of: predicted minus wanted, B rows of C h w numbers.
    func residuals(_ embeddings: [[Float]], _ draws: [Draw]) throws -> [[Double]]
}

/// Steps from here on are for measuring; training counts from 0 and never gets there.
public let heldOutStep: UInt32 = 1 << 31

/// The `count` draws of one step: draw j takes number j of the timestep stream, 2 j and 2 j + 1 of the image stream, and
/// with S = C h w normals 2 S j to 2 S (j + 1) of the noise stream.
///
/// - Parameter timesteps: t is uniform in it, the paper's partial uniform timestep sampling.
public func draws(_ objective: any Objective, seed: UInt64, step: UInt32, count: Int, timesteps: Range<Int>) -> [Draw] {
    let size = objective.latentsShape.reduce(1, *)
    let t = integers(seed: seed, stream: .timestep, step: step, count: count, below: timesteps.count)
    return (0..<count).map { j in
        func choice(_ number: Int, _ n: Int) -> Int {
            integers(seed: seed, stream: .image, step: step, count: 1, below: n, start: number)[0]
        }
        let noise = normals(seed: seed, stream: .noise, step: step, count: 2 * size, start: 2 * size * j)
        return Draw(
            image: choice(2 * j, objective.numImages), prompt: choice(2 * j + 1, objective.numPrompts),
            timestep: timesteps.lowerBound + t[j], noise: Array(noise[..<size]), latentNoise: Array(noise[size...]))
    }
}

/// A fixed set of draws that training never uses: images in turn, timesteps spread evenly over the range.
public func heldOutDraws(_ objective: any Objective, seed: UInt64, count: Int, timesteps: Range<Int>) -> [Draw] {
    draws(objective, seed: seed, step: heldOutStep, count: count, timesteps: timesteps).enumerated().map { j, drawn in
        Draw(
            image: j % objective.numImages, prompt: drawn.prompt,
            timestep: timesteps.lowerBound + ((2 * j + 1) * timesteps.count) / (2 * count),
            noise: drawn.noise, latentNoise: drawn.latentNoise)
    }
}

/// What the objective gives for embedding b on draw b, in calls of at most `maxBatch` rows.
func inCalls<Value>(
    _ call: ([[Float]], [Draw]) throws -> [Value], _ embeddings: [[Float]], _ draws: [Draw], maxBatch: Int
) throws -> [Value] {
    try stride(from: 0, to: draws.count, by: maxBatch).flatMap { start in
        let rows = start..<min(start + maxBatch, draws.count)
        return try call(Array(embeddings[rows]), Array(draws[rows]))
    }
}

/// The loss of one embedding (K D numbers) on every draw.
public func evaluate(_ objective: any Objective, _ embedding: [Float], _ draws: [Draw], maxBatch: Int) throws
    -> [Double]
{
    try inCalls(objective.losses, draws.map { _ in embedding }, draws, maxBatch: maxBatch)
}
