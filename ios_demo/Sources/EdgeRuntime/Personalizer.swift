import EdgeBundle
import EdgePhotos
import EdgeSystem
import EdgeZO
import Foundation

/// Learns a token from a few photos with forward passes only: the twin of `edge_sdk/personalizer.py`.
///
/// ```swift
/// let personalizer = Personalizer(try ModelBundle(folder), OrtLoader())
/// for try await step in personalizer.fit(photos, placeholder: "<mug>", initializer: "mug") {
///     print(step.step, step.loss)
/// }
/// try await personalizer.embedding().write(to: file)
/// ```
///
/// It works on a thread of its own, one thing after the other, so that neither a screen nor Swift's pool waits for it.
public actor Personalizer {
    public let bundle: ModelBundle
    private let loader: any GraphLoader
    private let executor = QueueExecutor()
    private var session: Session?

    /// Held-out loss of the initializer, before the first step.
    public private(set) var lossInitial: Double?
    /// Held-out loss of what was learned, after the last step.
    public private(set) var lossFinal: Double?
    /// What the user should know of the last run, a line each.
    public private(set) var notices: [String] = []

    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    public init(_ bundle: ModelBundle, _ loader: any GraphLoader) { (self.bundle, self.loader) = (bundle, loader) }

    /// The steps of a run. Nothing is done before the first one is asked for, and each is done when it is asked for.
    ///
    /// Cancelling the task ends them: the token and the state are those of the last whole step, and a checkpoint is given
    /// to `FitOptions.checkpoint`. Starting another run ends them, too.
    ///
    /// - Parameters:
    ///   - placeholder: one word that the vocabulary does not have, such as `<mug>`.
    ///   - initializer: one word that it has; nil for the bundle's own, which only the embedded model has.
    public nonisolated func fit(
        _ photos: [Photo], placeholder: String, initializer: String? = nil, options: FitOptions = FitOptions()
    ) -> Learning {
        Learning(
            personalizer: self,
            request: Learning.Request(
                photos: photos, placeholder: placeholder, initializer: initializer, options: options))
    }

    /// What has been learned so far, also in the middle of a run.
    ///
    /// - Throws: `EdgeSdkError` before the first run has begun.
    public func embedding() throws -> LearnedEmbedding {
        let session = try begun(), state = session.run.state, scale = bundle.scale, options = session.request.options
        return try LearnedEmbedding(
            token: session.request.placeholder,
            vectors: state.result.indices.map { state.result[$0] * scale[$0 % scale.count] }, widths: bundle.widths,
            metadata: [
                "placeholder_token": session.request.placeholder, "initializer_token": session.prepared.initializer,
                "model_sha256": bundle.manifest.model.sha256, "weights": bundle.manifest.weights,
                "execution": bundle.manifest.execution, "preset": options.preset.rawValue, "steps": String(state.step),
                "seed": String(options.seed),
            ])
    }

    /// Everything that goes on from the last whole step, as the bytes of a file.
    public func checkpoint() throws -> [UInt8] { try begun().checkpoint }

    /// What the run so far took and on what it went.
    ///
    /// - Throws: `EdgeSdkError` before the first run has begun.
    public func account() throws -> RunAccount {
        let session = try begun(), state = session.run.state, isResumed = session.request.options.resume != nil
        return RunAccount(
            state: state, rows: session.rows, lossDraws: session.lossDraws, heldOutForwards: session.heldOutForwards,
            muSource: isResumed ? "checkpoint" : bundle.manifest.muMin.map { _ in "manifest" },
            varianceShare: session.prepared.basis.isEmpty ? nil : try bundle.varianceShare(state.config.searched))
    }

    /// Pictures of a prompt, also in the middle of a run, whose graph is closed meanwhile.
    ///
    /// - Parameters:
    ///   - words: that the prompt may hold; nil for what is learned here, none for the picture before.
    ///   - onProgress: is told the share that is done.
    /// - Throws: `EdgeSdkError`, or `CancellationError` once the task is cancelled.
    public func generate(
        _ prompt: String, words: [LearnedEmbedding]? = nil, options: Generator.Options = .init(),
        onProgress: @Sendable (Double) -> Void = { _ in }
    ) throws -> [Picture] {
        session?.prepared.objective.close()
        let words = try words ?? (session == nil ? [] : [embedding()])
        let pictures = try Generator(BundleText(bundle), loader: loader).pictures(
            prompt, words: words.map(\.word), options: options,
            goOn: { share in
                onProgress(share)
                return !Task.isCancelled
            })
        try Task.checkCancellation()
        return pictures
    }

    /// Closes the run's graph, such as when the system asks for memory; the next step opens it again.
    public func close() { session?.prepared.objective.close() }

    /// The next step of a run; nil after its last one, or once its task is cancelled.
    func step(of request: Learning.Request) throws -> Step? {
        do {
            let session = try self.session(of: request)
            guard let session, !session.ended else { return nil }
            return try advance(session)
        } catch is CancellationError {
            if let session, session.request === request { try session.save() }
            return nil
        }
    }

    /// The session of a request, begun where it is new; nil where another run has taken its place.
    private func session(of request: Learning.Request) throws -> Session? {
        if let session, session.request === request { return session }
        guard request.begin() else { return nil }
        session?.prepared.objective.close()
        (session, lossInitial, lossFinal, notices) = (nil, nil, nil, [])
        do {
            let prepared = try prepare(
                bundle, loader, request.photos, placeholder: request.placeholder, initializer: request.initializer,
                request.options)
            notices = prepared.notices
            let session = try Session(request, prepared, bundle)
            lossInitial = try session.heldOutLoss(prepared.start)
            if request.options.maxTrainSteps == .auto { try session.watch(from: lossInitial!) }
            self.session = session
            return session
        } catch let error as CancellationError {
            request.forget()
            throw error
        }
    }

    private func advance(_ session: Session) throws -> Step? {
        do {
            if try !session.isFlat(), let step = try session.run.next() {
                if session.savesAfter(step) { try session.save() }
                return step
            }
        } catch let error as NonFiniteLossError {
            session.ended = true
            try session.save()
            throw error
        }
        lossFinal = try session.heldOutLoss(session.run.state.result)
        session.ended = true
        session.prepared.objective.close()
        return nil
    }

    private func begun() throws -> Session {
        guard let session else { throw EdgeSdkError("nothing has been learned yet; take a step of fit first") }
        return session
    }
}

/// What a run took and on what it went, as far as its state does not say.
public struct RunAccount: Sendable {
    public let state: RunState
    /// Of a call of the denoiser.
    public let rows: Int
    /// Draws that a loss on held-out draws is the mean of.
    public let lossDraws: Int
    /// Forward passes of all losses on held-out draws, where a row of a call is one.
    public let heldOutForwards: Int
    /// Where the floor of mu is from: "manifest" or "checkpoint"; nil where a bundle has none.
    public let muSource: String?
    /// Of the vocabulary's variance, the share along the directions that are searched; nil without any, or unknown.
    public let varianceShare: Double?
}

/// One run at work; it belongs to its personalizer.
final class Session {
    let request: Learning.Request
    let prepared: Prepared
    var run: Run
    var ended = false
    private var stopping: EarlyStopping?
    /// The step after which it was last asked whether the loss is flat.
    private var looked = 0
    private let bundle: ModelBundle
    let rows: Int
    /// Forward passes of all losses on held-out draws, where a row of a call is one.
    private(set) var heldOutForwards = 0

    /// Draws that a loss on held-out draws is the mean of.
    var lossDraws: Int {
        request.options.evalDraws ?? bundle.manifest.presets[request.options.preset.rawValue]!.evalDraws
    }

    init(_ request: Learning.Request, _ prepared: Prepared, _ bundle: ModelBundle) throws {
        (self.request, self.prepared, self.bundle) = (request, prepared, bundle)
        let options = request.options, state: RunState
        if let bytes = options.resume {
            state = try Checkpoint.state(of: bytes, path: "the checkpoint", fingerprints: prepared.fingerprints)
            // Of a bundle without a floor Python measures it, and may have raised mu to it.
            let manifest = bundle.manifest, isFinal = options.settings["zo_mu"] != nil || manifest.muMin != nil
            let raised = MuFloor.raised(prepared.config, muMin: state.muMin, vocabularyStd: manifest.vocabularyStd)
            let used = isFinal ? prepared.config : raised
            guard state.config == used, state.seed == options.seed else {
                throw EdgeSdkError(
                    "the checkpoint was made with other settings; resume with the same ones or start a new run")
            }
        } else {
            state = try RunState(
                prepared.config, seed: options.seed, embedding: prepared.start,
                shape: prepared.objective.embeddingShape, muMin: bundle.manifest.muMin ?? .nan, basis: prepared.basis)
        }
        rows = bundle.manifest.target?.rows ?? min(options.rows(bundle.manifest.latents), bundle.mostRows)
        let norms = bundle.normRange
        run = Run(
            prepared.objective, state, normRange: zip(norms.low, norms.high).map { $0...$1 }, maxBatch: rows,
            parts: bundle.widths)
    }

    var checkpoint: [UInt8] { Checkpoint.bytes(of: run.state, fingerprints: prepared.fingerprints) }

    func save() throws { try request.options.checkpoint?(checkpoint) }

    func savesAfter(_ step: Step) -> Bool {
        let every = request.options.checkpointingSteps ?? EarlyStopping.steps(of: EarlyStopping.save, prepared.config)
        return step.step % every == 0 || step.step == step.steps
    }

    /// Ends the run once the held-out loss is flat; `initial` is that of the initializer.
    func watch(from initial: Double) throws {
        let state = run.state
        stopping = EarlyStopping(
            initial: initial, before: state.step > 0 ? try heldOutLoss(state.result) : initial, prepared.config)
        looked = state.step
    }

    /// Whether the loss is flat after the last step, which is then saved. Asked once a step.
    func isFlat() throws -> Bool {
        let state = run.state
        guard stopping != nil, state.step != looked, state.step < state.config.maxTrainSteps else { return false }
        let flat = try stopping!.ends(after: state.step) { try heldOutLoss(state.result) }
        looked = state.step
        if flat { try save() }
        return flat
    }

    /// Mean loss of a token on fixed draws over all timesteps, which training never uses.
    func heldOutLoss(_ token: [Float]) throws -> Double {
        let options = request.options, objective = prepared.objective, count = lossDraws
        let draws = heldOutDraws(
            objective, seed: options.seed, count: count, timesteps: 0..<objective.numTrainTimesteps)
        var sum = 0.0
        for start in stride(from: 0, to: count, by: rows) {
            options.onProgress?(.init(stage: .measuringLoss, done: start, of: count))
            let some = Array(draws[start..<min(start + rows, count)])
            sum += try evaluate(objective, token, some, maxBatch: rows).reduce(0, +)
        }
        heldOutForwards += count
        options.onProgress?(.init(stage: .measuringLoss, done: count, of: count))
        guard sum.isFinite else {
            throw EdgeSdkError(
                "the loss on held-out draws is not finite; take other photos or another initializer, or export again")
        }
        return sum / Double(count)
    }
}

extension ModelBundle {
    /// Rows that a call of `zo_loss` takes: any number, or what its graph was made for.
    fileprivate var mostRows: Int {
        manifest.graphs["zo_loss"]?.inputs.first { $0.name == "latents" }?.shape.first.flatMap { $0 } ?? .max
    }
}
