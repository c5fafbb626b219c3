import EdgeSystem
import EdgeZO

/// `manifest.json` of a bundle, checked: the twin of edge_sdk/runtime/onnx/manifest.py. export/README.md describes it.
public struct Manifest: Sendable {
    public static let schemaVersion = 3
    static let again = "make the bundle again with edge-sdk export"

    public enum Format: String, Sendable, CaseIterable { case onnx, coreml }

    public enum Family: String, Sendable, CaseIterable {
        case pocket
        case stableDiffusion = "stable-diffusion"
        case stableDiffusionXL = "stable-diffusion-xl"
    }

    public struct Model: Sendable {
        public let name: String
        /// Of the source's files.
        public let sha256: String
        public let family: Family
    }

    /// One text encoder's part of a learned vector.
    public struct Embedding: Sendable {
        public let width: Int
        public let vocabSize: Int
        /// A vector's part is this times the optimizer's variable.
        public let scale: Double
        /// Least and largest norm of the variable's part.
        public let normRange: (low: Double, high: Double)
        public let table: Table
    }

    /// Rows of words in a file: `vocabSize` rows of `width` numbers.
    public struct Table: Sendable {
        public enum Number: String, Sendable, CaseIterable {
            case float16, float32
            public var bytes: Int { self == .float16 ? 2 : 4 }
        }
        public let file: String
        public let offset: Int
        public let number: Number
    }

    public struct Preset: Sendable {
        public let config: ZoConfig
        /// Draws on which the loss is measured before and after.
        public let evalDraws: Int
    }

    /// A training prompt; `{}` in its text is the placeholder's place.
    public struct Prompt: Sendable {
        public let text: String
        /// Ids before and after the placeholder, one list a text encoder.
        public let before: [[Int]]
        public let after: [[Int]]
    }

    /// Marks of a text encoder's rows, and the folder of its tokenizer.
    public struct Tokens: Sendable {
        public let bos, eos, pad, length: Int
        public let folder: String
    }

    public struct Graph: Sendable {
        public let file: String
        /// Which function of a Core ML package; nil for the only one, and for other formats.
        public let function: String?
        /// In the order of the manifest.
        public let inputs: [Port]
        public let outputs: [Port]
    }

    /// An input or output of a graph.
    public struct Port: Sendable {
        public let name: String
        /// nil for a size that may be any.
        public let shape: [Int?]
        public let dtype: String
    }

    /// A processor that graphs are made for. Their sizes are fixed.
    public struct Target: Sendable {
        public enum Name: String, Sendable, CaseIterable {
            case qnn, ane
            var format: Format { self == .qnn ? .onnx : .coreml }
        }
        public let name: Name
        /// Rows of a call of `zo_loss`.
        public let rows: Int
        /// Of a token.
        public let vectors: Int
    }

    public struct File: Sendable {
        public let role: String
        public let bytes: Int
        public let sha256: String
    }

    public let json: Json
    public let createdBy: String
    public let format: Format
    /// The processor that the graphs are made for; nil for any.
    public let target: Target?
    public let model: Model
    public let weights: String
    public let execution: String
    /// Side of a picture in pixels.
    public let resolution: Int
    /// C, h, w.
    public let latents: [Int]
    public let embedding: [Embedding]
    public let vocabularyStd: Double
    /// The smallest mu that the graph resolves; infinite if none was found, nil in older bundles.
    public let muMin: Double?
    public let principalDirections: (file: String, count: Int, width: Int)
    /// Of the words' variance, what all directions hold together; nil in older bundles.
    public let varianceShare: Double?
    public let initializerToken: String?
    public let initializerID: [Int]?
    public let initializers: [String: [Int]]
    public let presets: [String: Preset]
    /// SDXL only: an empty negative prompt stands for zeros.
    public let zeroNegative: Bool
    public let prompts: [String: [Prompt]]
    public let tokens: [Tokens]
    public let sampler: Ddim
    public let graphs: [String: Graph]
    /// Settings by runtime.
    public let runtime: Json
    /// By path.
    public let files: [String: File]

    /// The manifest of the bytes of a file.
    ///
    /// - Parameter place: the file's path, for messages.
    /// - Throws: `EdgeSdkError`, one line: not JSON, another version, or the first entry that is missing or wrong.
    public init(_ bytes: [UInt8], place: String) throws {
        func refusal(_ what: String) -> EdgeSdkError { EdgeSdkError("\(place) \(what); \(Self.again)") }
        let json: Json
        do { json = try Json.parse(bytes) } catch { throw refusal("cannot be read as JSON (\(error))") }
        guard json["schema_version"]?.int == Self.schemaVersion else {
            let version = json["schema_version"]?.short ?? "none"
            throw refusal("has schema version \(version); this program reads \(Self.schemaVersion)")
        }
        do {
            try Self.table.check(json)
            self = try Manifest(json)
            try checkSizes()
        } catch { throw EdgeSdkError("\(place): \(error); \(Self.again)") }
    }

    /// The checked entries as what they stand for.
    private init(_ json: Json) throws {
        let m = Reader(value: json)
        self.json = json
        createdBy = m.created_by.string
        format = Format(rawValue: m.format.string)!
        target = json["target"].map(Reader.init).map {
            Target(name: Target.Name(rawValue: $0.name.string)!, rows: $0.rows.int, vectors: $0.vectors.int)
        }
        model = Model(
            name: m.model.name.string, sha256: m.model.sha256.string, family: Family(rawValue: m.model.family.string)!)
        weights = m.weights.string
        execution = m.execution.string
        resolution = m.resolution.int
        latents = m.latents.ints
        embedding = m.embedding.list.map(Embedding.init)
        vocabularyStd = m.vocabulary_std.double
        muMin = json["mu_min"].map { $0.double ?? .infinity }
        let principal = m.principal_directions
        principalDirections = (principal.file.string, principal.count.int, principal.width.int)
        varianceShare = principal.value["variance_share"]?.double
        initializerToken = m.initializer_token.value.string
        initializerID = m.initializer_id.value.items?.compactMap(\.int)
        initializers = m.initializers.named.mapValues(\.ints)
        presets = try Self.presets(json["presets"] ?? .null)
        zeroNegative = json["force_zeros_for_empty_prompt"]?.bool ?? true
        prompts = m.prompts.named.mapValues { kind in
            kind.list.map {
                Prompt(text: $0.text.string, before: $0.before.list.map(\.ints), after: $0.after.list.map(\.ints))
            }
        }
        tokens = m.tokens.list.map {
            Tokens(bos: $0.bos.int, eos: $0.eos.int, pad: $0.pad.int, length: $0.length.int, folder: $0.folder.string)
        }
        sampler = Ddim(m.scheduler, predictionType: m.prediction_type.string)
        graphs = m.graphs.named.mapValues {
            Graph(
                file: $0.file.string, function: $0.value["function"]?.string, inputs: $0.inputs.ports,
                outputs: $0.outputs.ports)
        }
        runtime = json["runtime"] ?? .null
        files = m.files.named.mapValues { File(role: $0.role.string, bytes: $0.bytes.int, sha256: $0.sha256.string) }
    }

    private static func presets(_ value: Json) throws -> [String: Preset] {
        var presets: [String: Preset] = [:]
        for name in ["fast", "paper"] {
            let entries = value[name]?.entries ?? []
            do {
                let config = try ZoConfig(json: .object(entries.filter { $0.key != "eval_draws" }))
                presets[name] = Preset(config: config, evalDraws: value[name]?["eval_draws"]?.int ?? 0)
            } catch { throw EdgeSdkError("presets.\(name): \(error)") }
        }
        return presets
    }

    /// That entries fit each other.
    private func checkSizes() throws {
        func require(_ holds: Bool, _ what: String) throws { if !holds { throw EdgeSdkError(what) } }
        try require(
            latents.count == 3 && resolution % latents[1] == 0 && resolution % latents[2] == 0,
            "latents must be three sizes, the last two of which divide the resolution")
        try require(vocabularyStd > 0, "vocabulary_std must be above 0")
        try require(
            principalDirections.count > 0 && principalDirections.width == embedding.reduce(0) { $0 + $1.width },
            "principal_directions.count must be above 0, and width the sum of embedding's widths")
        let steps = sampler.numTrainTimesteps
        try require(
            sampler.a.count == steps && sampler.b.count == steps,
            "scheduler.a and scheduler.b must have num_train_timesteps values")
        try require(sampler.stepsOffset < steps, "scheduler.steps_offset must be from 0 to below num_train_timesteps")
        let encoders = model.family == .stableDiffusionXL ? 2 : 1
        try require(
            embedding.count == encoders && tokens.count == encoders,
            "embedding and tokens must be lists of as many text encoders")
        try require(
            !prompts.isEmpty && prompts.values.allSatisfy { !$0.isEmpty && $0.allSatisfy { $0.text.contains("{}") } },
            "a prompt's text must hold the placeholder's mark {}, and there must be a prompt")
        for (name, ids) in initializers.merging(["initializer_id": initializerID ?? []], uniquingKeysWith: { $1 }) {
            let fits = ids.count == encoders && zip(ids, embedding).allSatisfy { $0 < $1.vocabSize }
            try require(
                fits || (name == "initializer_id" && initializerID == nil),
                "\(shown(name)) must be a word's ids, one a text encoder")
        }
        for (i, part) in embedding.enumerated() {
            let range = json["embedding"]?.items?[i]["norm_range"]?.items?.count
            let shape = json["embedding"]?.items?[i]["table"]?["shape"]?.items?.compactMap(\.int)
            try require(part.scale > 0, "embedding.\(i).scale must be above 0")
            try require(
                range == 2 && 0 <= part.normRange.low && part.normRange.low <= part.normRange.high,
                "embedding.\(i).norm_range must be a least and a largest norm")
            try require(
                shape == [part.vocabSize, part.width], "embedding.\(i).table.shape must be vocab_size, width")
        }
        let functions = graphs.values.map { [$0.file, $0.function ?? "main"] }
        try require(
            format != .coreml || Set(functions).count == functions.count,
            "graphs of the format coreml must be functions that differ")
        for (name, graph) in graphs {
            let isName = graph.function?.wholeMatch(of: /[A-Za-z_][A-Za-z0-9_]{0,63}/) != nil
            try require(
                graph.function == nil || (format == .coreml && isName),
                "graphs.\(shown(name)).function must be a name, and is for the format coreml only")
            for port in graph.inputs + graph.outputs {
                let sizes = port.shape.compactMap { $0 }
                let size = sizes.reduce(1.0) { $0 * Double($1) }
                try require(
                    size <= Double(Self.mostElements),
                    "graphs.\(shown(name)): \(shown(port.name)) must have at most \(Self.mostElements) values")
            }
        }
        try checkTarget()
        for (name, preset) in presets {
            try require(
                preset.config.timestepRange.high <= steps,
                "presets.\(name).timestep_range must end within num_train_timesteps")
        }
    }
}

extension Manifest {
    /// That a bundle for one processor has no free sizes.
    fileprivate func checkTarget() throws {
        func require(_ holds: Bool, _ what: String) throws { if !holds { throw EdgeSdkError(what) } }
        guard let target else { return }
        try require(
            format == target.name.format,
            "target.name \(target.name.rawValue) is for the format \(target.name.format.rawValue) only")
        let ports = graphs.values.flatMap { $0.inputs + $0.outputs }
        try require(
            ports.allSatisfy { !$0.shape.contains(nil) }, "graphs of a target must have numbers for sizes")
        let inputs = graphs["zo_loss"]?.inputs ?? []
        let timestep = inputs.first { $0.name == "timestep" }?.shape
        let learned = (inputs.first { $0.name == "learned" }?.shape ?? []).compactMap { $0 }
        try require(
            timestep == [target.rows], "target.rows must be the size of graphs.zo_loss.inputs.timestep")
        try require(
            learned.count > 1 && learned.dropLast().reduce(1.0) { $0 * Double($1) } == Double(target.rows * target.vectors),
            "target.vectors must be the vectors of a row of graphs.zo_loss.inputs.learned")
    }
}

extension Manifest.Embedding {
    fileprivate init(_ entry: Reader) {
        let range = entry.norm_range.list.map(\.double)
        let table = entry.table
        self.init(
            width: entry.width.int, vocabSize: entry.vocab_size.int, scale: entry.scale.double,
            normRange: (range.first ?? 0, range.last ?? 0),
            table: .init(
                file: table.file.string, offset: table.offset.int, number: .init(rawValue: table.dtype.string)!))
    }
}

extension Ddim {
    fileprivate init(_ scheduler: Reader, predictionType: String) {
        self.init(
            numTrainTimesteps: scheduler.num_train_timesteps.int,
            predictionType: Prediction(rawValue: predictionType)!,
            spacing: Spacing(rawValue: scheduler.timestep_spacing.string)!,
            stepsOffset: scheduler.steps_offset.int,
            clipRange: scheduler.clip_sample.value.bool == true ? Float(scheduler.clip_sample_range.double) : nil,
            setAlphaToOne: scheduler.set_alpha_to_one.value.bool!,
            a: scheduler.a.list.map { Float($0.double) }, b: scheduler.b.list.map { Float($0.double) })
    }
}

/// Entries of a checked manifest by their names.
@dynamicMemberLookup
private struct Reader {
    let value: Json

    subscript(dynamicMember name: String) -> Reader { Reader(value: value[name]!) }

    var string: String { value.string! }
    var int: Int { value.int! }
    var double: Double { value.double! }
    var ints: [Int] { value.items!.map { $0.int! } }
    var list: [Reader] { value.items!.map(Reader.init) }
    var named: [String: Reader] {
        Dictionary(uniqueKeysWithValues: value.entries!.map { ($0.key, Reader(value: $0.value)) })
    }

    /// Tensors of a graph by name.
    var ports: [Manifest.Port] {
        value.entries!.map { name, tensor in
            Manifest.Port(name: name, shape: tensor["shape"]!.items!.map(\.int), dtype: tensor["dtype"]!.string!)
        }
    }
}
