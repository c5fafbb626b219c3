import EdgeZO

/// What must be in a manifest, of which type.
extension Manifest {
    static let mostElements = 1 << 26  // of a tensor that a graph takes or gives

    /// Every entry and its type, in parts: one large literal would take the compiler seconds.
    static let table: Kind = {
        let model: [(String, Kind)] = [
            ("name", .text), ("sha256", .text), ("family", .oneOf(Family.allCases.map(\.rawValue))),
        ]
        let entries: [(String, Kind)] = [
            ("created_by", .text), ("format", .oneOf(Format.allCases.map(\.rawValue))), ("model", .entries(model)),
            ("target", .maybe(.entries(ofTarget))),
            ("weights", .oneOf(["int8", "int4", "none"])), ("execution", .text),
            ("prediction_type", .oneOf(Ddim.Prediction.allCases.map(\.rawValue))), ("resolution", .whole(8...4096)),
            ("latents", .many(.whole(1...4096))), ("embedding", .many(.entries(ofEmbedding))),
            ("vocabulary_std", .real), ("mu_min", .maybe(.either([.number(0...Kind.largest), .null]))),
            ("principal_directions", .entries(ofDirections)), ("runtime", .named(.anyObject)),
            ("presets", .entries([("fast", .entries(ofPreset)), ("paper", .entries(ofPreset))])),
            ("force_zeros_for_empty_prompt", .maybe(.bool)), ("scheduler", .entries(ofScheduler)),
            ("files", .named(.entries(ofFile))),
        ]
        return .entries(entries + ofWords + [("graphs", .named(.entries(ofGraph)))])
    }()

    private static let ofTarget: [(String, Kind)] = [
        ("name", .oneOf(Target.Name.allCases.map(\.rawValue))), ("rows", .whole(1...4096)), ("vectors", .whole(1...64)),
    ]

    private static let id = Kind.whole(0...1 << 24)

    private static let ofEmbedding: [(String, Kind)] = [
        ("width", .whole(1...1 << 16)), ("vocab_size", .whole(1...1 << 24)), ("scale", .real),
        ("norm_range", .many(.real)),
        ("table", .entries(ofTable)),
    ]

    private static let ofTable: [(String, Kind)] = [
        ("file", .text), ("offset", .whole(0...1 << 48)), ("dtype", .oneOf(Table.Number.allCases.map(\.rawValue))),
        ("shape", .many(id)),
    ]

    private static let ofDirections: [(String, Kind)] = [
        ("file", .text), ("count", .whole(0...1 << 16)), ("width", .whole(1...1 << 16)),
        ("variance_share", .maybe(.number(0...1))),
    ]

    private static let ofPreset: [(String, Kind)] =
        ZoConfig.options.map { ($0.name, Kind.anything) } + [
            ("schema_version", .whole(1...1000)), ("eval_draws", .whole(1...65_536)),
        ]

    /// What is about words: those to start from, prompts, marks of rows.
    private static let ofWords: [(String, Kind)] = {
        let prompt: [(String, Kind)] = [("text", .text), ("before", .many(.many(id))), ("after", .many(.many(id)))]
        let tokens: [(String, Kind)] = [
            ("bos", id), ("eos", id), ("pad", id), ("length", .whole(3...4096)), ("folder", .text),
        ]
        return [
            ("initializer_token", .either([.text, .null])), ("initializer_id", .either([.many(id), .null])),
            ("initializers", .named(.many(id))), ("prompts", .named(.many(.entries(prompt)))),
            ("tokens", .many(.entries(tokens))),
        ]
    }()

    private static let ofScheduler: [(String, Kind)] = [
        ("num_train_timesteps", .whole(1...100_000)), ("a", .many(.real)), ("b", .many(.real)),
        ("timestep_spacing", .oneOf(Ddim.Spacing.allCases.map(\.rawValue))), ("steps_offset", .whole(0...100_000)),
        ("clip_sample", .bool), ("clip_sample_range", .real), ("set_alpha_to_one", .bool),
    ]

    private static let ofGraph: [(String, Kind)] = {
        let size = Kind.either([.whole(1...mostElements), .text])
        let tensor: [(String, Kind)] = [
            ("shape", .many(size, 0...8)), ("dtype", .oneOf(["float32", "int64", "int32"])),
        ]
        return [
            ("file", .text), ("function", .maybe(.text)), ("inputs", .named(.entries(tensor))),
            ("outputs", .named(.entries(tensor))),
        ]
    }()

    private static let ofFile: [(String, Kind)] = [("role", .text), ("bytes", .whole(0...1 << 48)), ("sha256", .text)]
}
