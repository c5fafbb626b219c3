import EdgeSystem
import EdgeZO

/// The settings of a run: the twin of `PersonalizeConfig` in `edge_sdk/config.py`, without what a bundle decides.
public struct FitOptions: Sendable {
    public enum Preset: String, CaseIterable, Sendable { case fast, paper }

    public enum TrainSteps: Equatable, Sendable {
        /// The preset's.
        case ofPreset
        case count(Int)
        /// Until the held-out loss is flat, at the most three times the preset's.
        case auto
    }

    public var preset = Preset.fast
    public var maxTrainSteps = TrainSteps.ofPreset
    /// Any 64-bit number.
    public var seed: UInt64 = 0
    /// Vectors that the word stands for.
    public var numVectors = 1
    /// Rows a call of the graph; changes results by rounding only. nil: one, or more where latents are small.
    public var maxBatch: Int?
    /// Draws for the loss before and after, which training never uses. nil: the bundle's.
    public var evalDraws: Int?
    /// `object` or `style`: chooses the training prompts.
    public var learnableProperty = "object"
    /// Photos are cropped to a square before they are resampled; false: squeezed.
    public var centerCrop = true
    /// Settings of `ZoConfig` by name that replace the preset's, such as `zo_samples`.
    public var settings: [String: Json] = [:]
    /// Bytes of a checkpoint of this very run to go on from.
    public var resume: [UInt8]?
    /// Steps between checkpoints. nil: about 150 forward passes.
    public var checkpointingSteps: Int?
    /// Takes a checkpoint's bytes: every few steps, after the last one, and when the task is cancelled.
    public var checkpoint: (@Sendable ([UInt8]) throws -> Void)?
    /// Is told what goes on before and between the steps.
    public var onProgress: (@Sendable (Progress) -> Void)?

    public init() {}

    /// What is done besides the steps, and how much of it.
    public struct Progress: Equatable, Sendable {
        public enum Stage: Sendable { case encodingPhotos, measuringLoss }
        public let stage: Stage, done: Int, of: Int
    }

    static let mostRows = 16
    /// h w of the latents of all rows of a call: at the size of Stable Diffusion 1.x a call has one row.
    private static let rowLatents = 4096

    /// Rows a call for latents (C, h, w).
    public func rows(_ latents: [Int]) -> Int {
        maxBatch ?? max(1, min(Self.mostRows, Self.rowLatents / (latents[1] * latents[2])))
    }

    /// - Throws: `EdgeSdkError` for the first value that is out of range.
    func check() throws {
        func range(_ name: String, _ value: Int?, _ accepted: ClosedRange<Int>) throws {
            guard let value, !accepted.contains(value) else { return }
            throw EdgeSdkError("\(name) is \(value); it must be from \(accepted.lowerBound) to \(accepted.upperBound)")
        }
        try range("num_vectors", numVectors, 1...64)
        try range("max_batch", maxBatch, 1...4096)
        try range("eval_draws", evalDraws, 1...65_536)
        try range("checkpointing_steps", checkpointingSteps, 1...1_000_000_000)
        guard ["object", "style"].contains(learnableProperty) else {
            throw EdgeSdkError(
                "learnable_property is \(learnableProperty.prefix(60).debugDescription); it must be one of object, style"
            )
        }
    }

    /// The preset's settings with the changes in place.
    func config(_ preset: ZoConfig) throws -> ZoConfig {
        var config = preset
        switch maxTrainSteps {
        case .ofPreset: break
        case .count(let steps): config = try config.with("max_train_steps", .number(steps))
        case .auto: config.maxTrainSteps *= EarlyStopping.longest
        }
        for (name, value) in settings.sorted(by: { $0.key < $1.key }) { config = try config.with(name, value) }
        return config
    }
}
