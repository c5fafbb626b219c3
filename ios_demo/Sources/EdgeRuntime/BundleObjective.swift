import EdgeBundle
import EdgeZO

/// The photos as the VAE sees them, encoded once: mean and standard deviation of the posterior, C h w numbers each.
public struct Latents: Equatable, Sendable {
    public var mean: [[Float]] = [], std: [[Float]] = []
}

/// Encodes photos, (3, side, side) numbers in [-1, 1] each, one at a time to bound memory.
///
/// - Parameter onPhoto: is told how many are done, and may throw to end it.
public func encode(
    _ pixels: [[Float]], _ bundle: ModelBundle, _ loader: any GraphLoader, onPhoto: (Int) throws -> Void = { _ in }
) throws -> Latents {
    let encoder = try loader.open(bundle, "vae_encoder"), side = bundle.manifest.resolution
    defer { encoder.close() }
    var latents = Latents()
    for (done, photo) in pixels.enumerated() {
        try onPhoto(done)
        let outputs = try encoder.run(
            ["pixels": .float(shape: [1, 3, side, side], data: photo)], outputs: ["mean", "std"])
        latents.mean.append(outputs["mean"]!.data)
        latents.std.append(outputs["std"]!.data)
    }
    return latents
}

/// A bundle's graph `zo_loss` as the function that the optimizer sees: the twin of
/// `edge_sdk/runtime/onnx/objective.py`. An embedding is the optimizer's variable: the bundle's scale times it are the
/// vectors.
public final class BundleObjective: Objective {
    public let numImages: Int, numPrompts: Int, numTrainTimesteps: Int, latentsShape: [Int], embeddingShape: [Int]
    private let bundle: ModelBundle, loader: any GraphLoader
    private let latents: Latents, ids: [[Int]], sizes: [[Float]], scale: [Float]
    private var graph: (any Graph)?

    /// - Parameters:
    ///   - ids: of the prompts, a row each; the token's vectors are those from the vocabulary's size on.
    ///   - sizes: six numbers a photo, which SDXL is told: height and width of the whole, 0, 0, and twice the side.
    public init(
        _ bundle: ModelBundle, _ loader: any GraphLoader, latents: Latents, ids: [[Int]], numVectors: Int,
        sizes: [[Float]]
    ) {
        (self.bundle, self.loader, self.latents, self.ids, self.sizes) = (bundle, loader, latents, ids, sizes)
        scale = bundle.scale
        (numImages, numPrompts) = (latents.mean.count, ids.count)
        numTrainTimesteps = bundle.manifest.sampler.numTrainTimesteps
        latentsShape = bundle.manifest.latents
        embeddingShape = [numVectors, scale.count]
    }

    public func losses(_ embeddings: [[Float]], _ draws: [Draw]) throws -> [Double] {
        if bundle.manifest.graphs["zo_loss"]?.outputs.contains(where: { $0.name == "loss" }) == false {
            return try residuals(embeddings, draws).map { row in row.reduce(0) { $0 + $1 * $1 } / Double(row.count) }
        }
        return try run(embeddings, draws, "loss").map(Double.init)
    }

    public func residuals(_ embeddings: [[Float]], _ draws: [Draw]) throws -> [[Double]] {
        let most = bundle.manifest.target?.rows ?? draws.count  // each row of a call has vectors of its own
        return try stride(from: 0, to: draws.count, by: most).flatMap { start in
            let some = start..<min(start + most, draws.count)
            let all = try run(Array(embeddings[some]), Array(draws[some]), "residual"), size = all.count / some.count
            return some.indices.map { b in
                all[((b - start) * size)..<((b - start + 1) * size)].map(Double.init)
            }
        }
    }

    /// Opens the graph, which a call would open otherwise.
    @discardableResult
    public func open() throws -> any Graph {
        if let graph { return graph }
        let opened = try loader.open(bundle, "zo_loss")
        graph = opened
        return opened
    }

    /// Closes the graph until it is needed again.
    public func close() {
        graph?.close()
        graph = nil
    }

    /// One call for all rows: the graph takes one list of vectors, so each row's ids name vectors of its own.
    private func run(_ embeddings: [[Float]], _ draws: [Draw], _ output: String) throws -> [Float] {
        try Task.checkCancellation()
        var distinct: [[Float]] = []
        let numbers = embeddings.map { embedding in
            if let known = distinct.firstIndex(of: embedding) { return known }
            distinct.append(embedding)
            return distinct.count - 1
        }
        let learned = distinct.flatMap { token in token.indices.map { token[$0] * scale[$0 % scale.count] } }
        let inputIDs = zip(draws, numbers).flatMap { draw, number in row(draw.prompt, of: number) }
        let x0 = draws.flatMap { draw in
            let mean = latents.mean[draw.image], std = latents.std[draw.image]
            return mean.indices.map { mean[$0] + std[$0] * draw.latentNoise[$0] }
        }
        let shape = [draws.count] + latentsShape
        var inputs: [String: Tensor] = [
            "input_ids": .int64(shape: [draws.count, inputIDs.count / draws.count], data: inputIDs),
            "learned": .float(shape: [learned.count / scale.count, scale.count], data: learned),
            "latents": .float(shape: shape, data: x0),
            "noise": .float(shape: shape, data: draws.flatMap(\.noise)),
            "timestep": .int64(shape: [draws.count], data: draws.map { Int64($0.timestep) }),
        ]
        if bundle.isXL { inputs["sizes"] = .float(shape: [draws.count, 6], data: draws.flatMap { sizes[$0.image] }) }
        return try open().run(inputs, outputs: [output])[output]!.data
    }

    /// A prompt's ids, which name the vectors of one of a call's embeddings.
    private func row(_ prompt: Int, of number: Int) -> [Int64] {
        var start = 0
        return zip(bundle.manifest.tokens, bundle.manifest.embedding).flatMap { tokens, part in
            let section = ids[prompt][start..<(start + tokens.length)]
            start += tokens.length
            return section.map { Int64($0 < part.vocabSize ? $0 : $0 + number * embeddingShape[0]) }
        }
    }
}
