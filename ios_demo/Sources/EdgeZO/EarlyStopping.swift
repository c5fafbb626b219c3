/// When a run has nothing more to gain: the loss on draws that training never uses is flat. The twin of
/// `edge_sdk/zo/early_stopping.py`.
public struct EarlyStopping: Sendable {
    /// Of the loss decrease so far: a smaller one since the last look ends the run.
    static let flat = 0.01
    /// Forward passes between two looks, and between two checkpoints.
    public static let look = 330, save = 150
    /// Times a preset's own number of steps, at the most.
    public static let longest = 3

    private let initial: Double
    private var before: Double
    private let every: Int

    /// - Parameters:
    ///   - initial: the held-out loss of the initializer.
    ///   - before: that of the token the run goes on from.
    public init(initial: Double, before: Double, _ config: ZoConfig) {
        (self.initial, self.before) = (initial, before)
        every = Self.steps(of: Self.look, config)
    }

    /// Whether the run ends after this step: every few steps it looks at the held-out loss now.
    public mutating func ends(after step: Int, measure: () throws -> Double) rethrows -> Bool {
        guard step % every == 0 else { return false }
        let now = try measure(), gained = before - now
        before = now
        return gained < Self.flat * (initial - now)
    }

    /// About how many steps take so many forward passes, at least one.
    public static func steps(of forwards: Int, _ config: ZoConfig) -> Int { max(1, forwards / config.forwardsPerStep) }
}
