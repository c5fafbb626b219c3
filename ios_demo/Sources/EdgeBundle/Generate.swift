import EdgeSystem
import EdgeZO

/// A word that was learned, for prompts: its vectors are K D numbers.
public struct LearnedWord: Sendable {
    public let token: String
    public let vectors: [Float]

    public init(token: String, vectors: [Float]) {
        self.token = token
        self.vectors = vectors
    }
}

/// A picture that was generated: red, green and blue of each pixel, row by row.
public struct Picture: Equatable, Sendable {
    public let side: Int
    public let rgb: [UInt8]
}

/// Pictures from a prompt by DDIM, one graph at a time: the twin of edge_sdk/runtime/onnx/generate.py.
public struct Generator: Sendable {
    public struct Options: Sendable {
        public var negativePrompt = ""
        public var steps = 25
        public var guidanceScale: Float = 4
        /// Picture i starts from the same noise whatever else is drawn.
        public var seed: UInt64 = 0
        public var images = 1

        public init() {}
    }

    let text: BundleText
    let loader: any GraphLoader
    private var bundle: ModelBundle { text.bundle }
    private var manifest: Manifest { text.bundle.manifest }

    public init(_ text: BundleText, loader: any GraphLoader) {
        self.text = text
        self.loader = loader
    }

    /// Draw pictures.
    ///
    /// - Parameters:
    ///   - words: those that the prompts may hold, each once.
    ///   - goOn: asked before every step of every picture with the share that is done; false ends it with the pictures
    ///     that are finished.
    /// - Throws: `EdgeSdkError`: a word twice or of another width, a prompt that is too long, or see ``GraphLoader``.
    public func pictures(
        _ prompt: String, words: [LearnedWord] = [], options: Options = Options(),
        goOn: (Double) -> Bool = { _ in true }
    ) throws -> [Picture] {
        let size = manifest.latents.reduce(1, *)
        let steps = min(options.steps, manifest.sampler.mostSteps)
        guard steps >= 1, options.images >= 1 else {
            throw EdgeSdkError("steps are \(options.steps) and images \(options.images); each must be at least 1")
        }
        let conditioning = try encode(prompt, options.negativePrompt, words)
        var finished: [[Float]] = []
        try using("unet") { unet in
            for i in 0..<options.images {
                var latents = normals(seed: options.seed, stream: .noise, step: UInt32(i), count: size)
                for (k, t) in manifest.sampler.timesteps(steps).enumerated() {
                    guard goOn((Double(i) + Double(k) / Double(steps)) / Double(options.images)) else { return }
                    var inputs = conditioning
                    inputs["sample"] = .float(shape: [2] + manifest.latents, data: latents + latents)
                    inputs["timestep"] = .int64(shape: [2], data: [Int64(t), Int64(t)])
                    let both = try unet.run(inputs, outputs: ["predicted"])["predicted"]!.data
                    let predicted = Ddim.guided(
                        Array(both.prefix(size)), Array(both.suffix(size)), scale: options.guidanceScale)
                    latents = manifest.sampler.step(predicted, timestep: t, steps: steps, latents: latents)
                }
                finished.append(latents)
            }
        }
        return try decode(finished)
    }

    /// Pictures of latents, C h w numbers each.
    ///
    /// - Throws: `EdgeSdkError`: a pixel is not finite, or see ``GraphLoader``.
    public func decode(_ latents: [[Float]]) throws -> [Picture] {
        try using("vae_decoder") { decoder in
            try latents.map { row in
                let input = Tensor.float(shape: [1] + manifest.latents, data: row)
                let pixels = try decoder.run(["latents": input], outputs: ["pixels"])["pixels"]!.data
                return try Self.picture(pixels, side: manifest.resolution)
            }
        }
    }

    /// (3, side, side) numbers, of which -1 to 1 is shown, as bytes; halves go to the even number.
    static func picture(_ pixels: [Float], side: Int) throws -> Picture {
        guard pixels.allSatisfy(\.isFinite) else {
            throw EdgeSdkError("the model computed a picture that is not finite, so none is shown; take fewer steps")
        }
        let plane = side * side
        let rgb = (0..<3 * plane).map { byte(pixels[$0 % 3 * plane + $0 / 3]) }
        return Picture(side: side, rgb: rgb)
    }

    static func byte(_ pixel: Float) -> UInt8 {
        UInt8(((min(max(pixel, -1), 1) + 1) * 127.5).rounded(.toNearestOrEven))
    }

    /// Inputs of the denoiser beside the sample: two rows, the negative prompt's first.
    private func encode(_ prompt: String, _ negative: String, _ words: [LearnedWord]) throws -> [String: Tensor] {
        let width = bundle.widths.reduce(0, +)
        var folded = Set<Letters>()
        for word in words {
            guard word.vectors.count % width == 0, !word.vectors.isEmpty else {
                throw EdgeSdkError(
                    "the embedding of \(shown(word.token)) has \(word.vectors.count) numbers, and this model takes "
                        + "vectors of \(width); use it with the model it was learned on")
            }
            guard folded.insert(fold(word.token)).inserted else {
                throw EdgeSdkError(
                    "two embeddings have the word \(shown(word.token)), in any letters; give each word once")
            }
        }
        let placeholders = words.map { ($0.token, $0.vectors.count / width) }
        // The graph takes at least one vector; without words no id refers to it.
        let vectors = words.isEmpty ? Array(repeating: 0, count: width) : words.flatMap(\.vectors)
        let learned = Tensor.float(shape: [vectors.count / width, width], data: vectors)
        let names = try bundle.graph("text_encoder").described.outputs.map(\.name)
        let rows = try using("text_encoder") { encoder in
            try [negative, prompt].map { text in
                let ids = try self.text.row(text, placeholders: placeholders).map(Int64.init)
                return try encoder.run(
                    ["input_ids": .int64(shape: [1, ids.count], data: ids), "learned": learned], outputs: names)
            }
        }
        var inputs: [String: Tensor] = [:]
        for name in names {
            let (without, with) = (rows[0][name]!, rows[1][name]!)
            let isZero = bundle.isXL && negative.isEmpty && manifest.zeroNegative
            let first = isZero ? Array(repeating: 0, count: without.data.count) : without.data
            inputs[name] = .float(shape: [2] + with.shape.dropFirst(), data: first + with.data)
        }
        if bundle.isXL {
            let side = Float(manifest.resolution)
            let sizes = [side, side, 0, 0, side, side]
            inputs["sizes"] = .float(shape: [2, 6], data: sizes + sizes)
        }
        return inputs
    }

    private func using<Value>(_ name: String, _ body: (any Graph) throws -> Value) throws -> Value {
        let graph = try loader.open(bundle, name)
        defer { graph.close() }
        return try body(graph)
    }
}
