import EdgePhotos
import EdgeSystem
import EdgeZO
import Foundation

/// What the app needs of the library. ``BundleEngine`` is the real one; tests have a small one of their own.
public protocol Engine: Sendable {
    /// Formats of bundles that this device can run: `onnx`, and `coreml` where Core ML is.
    var formats: Set<String> { get }

    /// Reads a bundle and checks every file of it.
    /// - Throws: `EdgeSdkError`: it is refused.
    func open(_ folder: URL) async throws -> any OpenedBundle

    /// Runs one step and one whole run, and gives the device record as JSON.
    /// - Parameter report: gets the steps done and the steps of the run; false ends it.
    /// - Throws: `EdgeSdkError`; `CancellationError` where `report` gave false.
    func measure(_ folder: URL, report: @escaping @Sendable (Int, Int) -> Bool) async throws -> [UInt8]
}

/// A checked bundle, for one thing at a time.
public protocol OpenedBundle: Sendable {
    /// Side of pictures in pixels.
    var resolution: Int { get }

    /// What to draw with a word, as the model was trained to be asked.
    func prompt(_ word: String) -> String

    /// Learns, step by step.
    /// - Parameter report: gets every step, and the held-out losses known by then; false ends the run after the step, whose
    ///   checkpoint is whole by then.
    /// - Throws: `EdgeSdkError`: the word is refused, the state is of another bundle, or a graph fails.
    func learn(_ task: LearningTask, report: (StepProgress, HeldOut) -> Bool) async throws

    /// The file of the token as it is now; only after a step, or after a state was taken up.
    func token() async throws -> [UInt8]

    /// Mean losses on draws that training never uses, as far as they are known.
    var heldOut: HeldOut { get async }

    /// Draws a picture with the random numbers of the session's seed.
    /// - Parameter token: bytes of a token's file; nil draws what the word is before learning.
    func draw(_ prompt: String, token: [UInt8]?, session: Session) async throws -> Drawing
}

/// What is to be learned.
public struct LearningTask: Sendable {
    public let photos: [Photo]
    public let word: String
    public let initializer: String
    public let seed: UInt64
    /// The state to go on from; nil to begin.
    public let resume: [UInt8]?
    /// Gets the whole state after each step.
    public let checkpoint: @Sendable ([UInt8]) throws -> Void
}

/// One step.
public struct StepProgress: Equatable, Sendable {
    /// Steps done, from 1, and steps of the whole run.
    public let step: Int, steps: Int
    /// On this step's draw.
    public let loss: Double
    /// Nil if it cannot be told yet.
    public let secondsLeft: Double?

    public init(step: Int, steps: Int, loss: Double, secondsLeft: Double?) {
        (self.step, self.steps, self.loss, self.secondsLeft) = (step, steps, loss, secondsLeft)
    }
}

/// Losses on draws that training never uses, before and after; nil where they are not known.
public struct HeldOut: Equatable, Sendable {
    public let before: Double?, after: Double?

    public init(before: Double?, after: Double?) { (self.before, self.after) = (before, after) }
}

/// Decodes photos; the platform's part.
public protocol PhotoDecoder: Sendable {
    /// A photo upright, in sRGB, over white.
    /// - Parameter side: what the model takes; a very large photo may come smaller, at least twice this size.
    /// - Throws: ``UnreadablePhoto``: it cannot be decoded, or is too small.
    func decode(_ file: URL, side: Int) throws -> Photo
}

/// A photo that cannot be used.
public struct UnreadablePhoto: Error, CustomStringConvertible {
    public let description: String

    public init(_ description: String) { self.description = description }
}

/// A generated picture: red, green and blue of each pixel, row by row. Kept as a binary PPM file, which needs no codec.
public struct Drawing: Equatable, Sendable {
    public let side: Int
    public let rgb: [UInt8]

    public init(side: Int, rgb: [UInt8]) {
        precondition(rgb.count == 3 * side * side, "\(rgb.count) bytes are no picture of \(side) x \(side)")
        (self.side, self.rgb) = (side, rgb)
    }

    public var bytes: [UInt8] { Array("P6\n\(side) \(side)\n255\n".utf8) + rgb }

    /// What ``bytes`` gave; nil for other bytes.
    public init?(_ bytes: [UInt8]) {
        let lines = bytes.prefix(24).split(
            separator: UInt8(ascii: "\n"), maxSplits: 3, omittingEmptySubsequences: false)
        guard lines.count == 4, let size = String(bytes: lines[1], encoding: .utf8)?.split(separator: " ").first,
            let side = Int(size), (1...16_384).contains(side)
        else { return nil }
        let header = "P6\n\(side) \(side)\n255\n".utf8
        guard bytes.starts(with: header), bytes.count == header.count + 3 * side * side else { return nil }
        self.init(side: side, rgb: Array(bytes.dropFirst(header.count)))
    }
}
