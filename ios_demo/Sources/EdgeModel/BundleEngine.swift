import EdgeBundle
import EdgePhotos
import EdgeRuntime
import EdgeSystem
import EdgeZO
import Foundation

/// The library as the app takes it.
public struct BundleEngine: Engine {
    /// Gives what opens the graphs of a bundle.
    public typealias Loaders = @Sendable (ModelBundle) async throws -> any GraphLoader
    public let formats: Set<String>
    private let loaders: Loaders
    private let machine: DeviceMeasurement.Machine
    private let options: DeviceMeasurement.Options

    /// - Parameters:
    ///   - machine: the device's names, for its record.
    ///   - options: of measuring.
    public init(
        formats: Set<String>, machine: DeviceMeasurement.Machine, options: DeviceMeasurement.Options = .init(),
        loaders: @escaping Loaders
    ) {
        (self.formats, self.machine, self.options, self.loaders) = (formats, machine, options, loaders)
    }

    public func open(_ folder: URL) async throws -> any OpenedBundle {
        let bundle = try ModelBundle(folder)
        return PersonalizerBundle(
            manifest: bundle.manifest, personalizer: Personalizer(bundle, try await loaders(bundle)))
    }

    public func measure(_ folder: URL, report: @escaping @Sendable (Int, Int) -> Bool) async throws -> [UInt8] {
        let bundle = try ModelBundle(folder)
        let measurement = DeviceMeasurement(bundle, try await loaders(bundle), machine: machine, options: options)
        return Array((try measurement.record(report: report).written(.indented) + "\n").utf8)
    }
}

/// A bundle that learns and draws with the library's personalizer.
private struct PersonalizerBundle: OpenedBundle {
    let manifest: Manifest
    let personalizer: Personalizer

    var resolution: Int { manifest.resolution }

    /// The pocket's own prompt, or a photo of the word.
    func prompt(_ word: String) -> String {
        let kinds = manifest.prompts, kind = kinds["pocket"] ?? kinds["object"] ?? kinds.values.first ?? []
        return (kind.first?.text ?? "a photo of {}").replacingOccurrences(of: "{}", with: word)
    }

    var heldOut: HeldOut {
        get async { HeldOut(before: await personalizer.lossInitial, after: await personalizer.lossFinal) }
    }

    func learn(_ task: LearningTask, report: (StepProgress, HeldOut) -> Bool) async throws {
        var options = FitOptions()
        options.seed = task.seed
        options.resume = task.resume
        options.checkpointingSteps = 1
        options.checkpoint = task.checkpoint
        let steps = personalizer.fit(
            task.photos, placeholder: task.word, initializer: task.initializer, options: options)
        for try await step in steps {
            let left = step.etaSeconds.isFinite ? step.etaSeconds : nil
            let progress = StepProgress(step: step.step, steps: step.steps, loss: step.loss, secondsLeft: left)
            if !report(progress, await heldOut) { return }
        }
    }

    func token() async throws -> [UInt8] { try await personalizer.embedding().toBytes() }

    func draw(_ prompt: String, token: [UInt8]?, session: Session) async throws -> Drawing {
        var options = Generator.Options()
        options.seed = session.seed
        let learned = try token.map { try LearnedEmbedding($0, name: "learned_embeds.safetensors") }
        // Before learning the word is what it started from.
        let words = learned == nil ? prompt.replacingOccurrences(of: session.word, with: session.initializer) : prompt
        let pictures = try await personalizer.generate(words, words: learned.map { [$0] } ?? [], options: options)
        guard let picture = pictures.first else { throw EdgeSdkError("no picture was drawn") }
        return Drawing(side: picture.side, rgb: picture.rgb)
    }
}

/// Photos as the library decodes them.
public struct FileDecoder: PhotoDecoder {
    public init() {}

    public func decode(_ file: URL, side: Int) throws -> Photo {
        do { return try PhotoFile.decode(file, resolution: side) } catch { throw UnreadablePhoto("\(error)") }
    }
}
