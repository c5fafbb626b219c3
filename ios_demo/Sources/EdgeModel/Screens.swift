import Foundation

/// The screens.
public enum Screen: String, Sendable { case choosing, learning, result, measuring }

/// What is being done beside learning. `amount` is in bytes for copying, in steps for measuring; 0 of 0 is not known yet.
public struct Work: Equatable, Sendable {
    public enum Kind: String, CaseIterable, Sendable {
        case copyingBundle, readingPhotos, drawing, measuring
    }

    public let kind: Kind
    public var amount = 0
    public var total = 0

    /// The key of the string catalog: `work_copying_bundle`.
    public var resource: String { "work_" + snakeCase(kind.rawValue) }
}

public enum Phase: Sendable { case preparing, running, stopping, paused }

/// The second screen.
public struct Learning: Equatable, Sendable {
    public var phase = Phase.preparing
    public var pause: Pause?
    public var step = 0
    public var steps = 0
    /// Smoothed, on the steps' own draws; nil before the first.
    public var loss: Double?
    /// On draws that training never uses, before learning; nil until it is known.
    public var heldOutBefore: Double?
    public var secondsLeft: Double?
}

/// The third screen. Losses are on draws that training never uses.
public struct Outcome: Equatable, Sendable {
    public var token: URL?
    public var lossBefore: Double?
    public var lossAfter: Double?
    public var prompt = ""
    public var before: Drawing?
    public var after: Drawing?
    public var own: Drawing?
    /// The token was saved or shared: leaving loses nothing.
    public var isKept = false
}

/// A mean of losses that forgets; bias-corrected (Kingma and Ba, 2015), or the first loss would weigh most for long.
struct Smoothed {
    private static let kept = 0.8  // of the mean so far: a run has about 40 steps, each on a draw of its own
    private var sum = 0.0
    private var weight = 0.0

    /// Nil before the first loss.
    var value: Double? { weight > 0 ? sum / weight : nil }

    mutating func add(_ loss: Double) {
        guard loss.isFinite else { return }  // a step that was skipped
        sum = Self.kept * sum + (1 - Self.kept) * loss
        weight = Self.kept * weight + (1 - Self.kept)
    }
}
