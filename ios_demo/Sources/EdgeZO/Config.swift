import EdgeSystem

/// Settings of the optimizer and the two presets: the twin of `edge_sdk/zo/config.py`. `ZoConfig.options` says what each is.
///
/// A value may be set to anything; `check()` refuses what is out of range, and every run begins with it.
public struct ZoConfig: Equatable, Sendable {
    public enum Optimizer: String, CaseIterable, Sendable { case adam, gaussNewton = "gauss_newton" }
    public enum Schedule: String, CaseIterable, Sendable { case constant, cosine }
    public enum Difference: String, CaseIterable, Sendable { case forward, central }
    public enum Sharing: String, CaseIterable, Sendable { case shared, perDirection = "per_direction" }

    public static let schemaVersion = 1
    /// Directions a step of the preset `fast`.
    static let samples = 32

    public var optimizer = Optimizer.adam
    public var maxTrainSteps = 30_000
    public var learningRate = 5e-3
    public var lrSchedule = Schedule.constant
    public var zoSamples = 2
    public var zoDirections = 0
    public var zoMu = 1e-3
    public var zoDifference = Difference.forward
    public var zoDraws = Sharing.shared
    public var trainBatchSize = 1
    public var zoNormalize = false
    public var subspaceBuffer = 128
    public var subspaceThreshold = 1e-3
    public var timestepRange = TimestepRange(low: 500, high: 900)
    public var adamBeta1 = 0.9
    public var adamBeta2 = 0.999
    public var adamEps = 1e-3  // not 1e-8: it keeps noise from being blown up to full steps
    public var damping = 0.1
    public var memory = 1.0
    public var trustRadius = 3.0
    public var averageFrom = 1.0
    public var maxBadSteps = 10

    /// Defaults are the paper's (ZOODiP, CVPR 2025), where it states them.
    public init() {}

    /// Timesteps low <= t < high, in order only once they are checked.
    public struct TimestepRange: Equatable, Sendable {
        public var low: Int, high: Int

        public init(low: Int, high: Int) { (self.low, self.high) = (low, high) }

        var range: Range<Int> { low..<high }
    }

    public static let paper = ZoConfig()

    /// Our best: Gauss-Newton steps in fixed directions, which the model brings.
    ///
    /// - Parameters:
    ///   - vocabularyStd: standard deviation per dimension of the model's token embeddings; lengths are shares of it.
    ///   - width: of a token embedding. The wider, the more directions matter, and the more steps it takes.
    public static func fast(vocabularyStd: Double, width: Int) -> ZoConfig {
        let directions = min(2 * samples, max(samples, width / 12))
        var config = ZoConfig()
        config.optimizer = .gaussNewton
        config.maxTrainSteps = 40 * directions / samples
        config.zoSamples = samples
        config.zoDirections = directions
        config.zoMu = 0.4 * vocabularyStd
        config.trustRadius = 3 * vocabularyStd
        config.subspaceBuffer = 0
        config.timestepRange = TimestepRange(low: 0, high: 1000)
        return config
    }

    /// Single-row evaluations of the model a step.
    public var forwardsPerStep: Int {
        let rows = zoSamples * trainBatchSize
        let sharesBase = optimizer == .gaussNewton || (zoDifference == .forward && zoDraws == .shared)
        return sharesBase ? rows + trainBatchSize : 2 * rows
    }

    /// Gauss-Newton's directions for each vector, from which a step takes `zoSamples`.
    public var searched: Int { max(zoSamples, zoDirections) }

    /// Those of some settings that this optimizer does not look at, sorted.
    public func withoutEffect(_ names: some Sequence<String>) -> [String] {
        let idle: Set<String> =
            optimizer == .adam
            ? ["zo_directions", "damping", "memory", "trust_radius"]
            : [
                "learning_rate", "lr_schedule", "zo_difference", "zo_draws", "zo_normalize", "subspace_buffer",
                "subspace_threshold", "adam_beta1", "adam_beta2", "adam_eps",
            ]
        return names.filter(idle.contains).sorted()
    }

    /// - Throws: `EdgeSdkError` for the first value that is out of range: its name, what it is, what is accepted.
    public func check() throws {
        for option in Self.options { _ = try option.write(self, option.read(self)) }
    }

    /// These settings with one of them changed.
    ///
    /// - Parameters:
    ///   - name: as in `options`, such as `zo_mu`.
    ///   - value: a number, a word, true or false; of `timestep_range` a list of two integers.
    /// - Throws: `EdgeSdkError` for an unknown name, and a value of another type or out of range.
    public func with(_ name: String, _ value: Json) throws -> ZoConfig {
        guard let option = Self.options.first(where: { $0.name == name }) else {
            throw EdgeSdkError("unknown setting \(name.prefix(60).debugDescription)")
        }
        return try option.write(self, value)
    }

    /// The order is that of `presets.json`.
    public var json: Json {
        .object([("schema_version", .number(Self.schemaVersion))] + Self.options.map { ($0.name, $0.read(self)) })
    }

    /// - Throws: `EdgeSdkError` for another schema version, an unknown name, and a value of another type or out of range.
    public init(json: Json) throws {
        guard let entries = json.entries else { throw EdgeSdkError("the settings are no object") }
        guard json["schema_version"]?.int == Self.schemaVersion else {
            let version = json["schema_version"]?.written() ?? "missing"
            throw EdgeSdkError("schema_version is \(version.prefix(60)); this version reads \(Self.schemaVersion)")
        }
        var config = ZoConfig()
        for (name, value) in entries where name != "schema_version" { config = try config.with(name, value) }
        self = config
    }
}
