import EdgeZO
import Foundation
import Observation

/// What the app does, without a screen: it takes what the person and the phone do, and keeps what the screens show.
///
/// What takes time runs elsewhere, one thing at a time. All that matters is in the store after every change, so that a model
/// made anew goes on where the last one ended. The twin of the Android app's presenter.
@MainActor
@Observable
public final class AppModel {
    public static let mostPhotos = 20

    public internal(set) var screen: Screen
    public internal(set) var bundles: [BundleInfo]
    public internal(set) var bundle: BundleInfo?
    public internal(set) var photos: [URL]
    public internal(set) var word: String
    public internal(set) var initializer: String
    public internal(set) var work: Work?
    public internal(set) var message: Message?
    public internal(set) var learning = Learning()
    public internal(set) var outcome = Outcome()
    /// The device record of the fourth screen, once it is there.
    public internal(set) var record: URL?
    public internal(set) var reading = Reading()

    @ObservationIgnored let shelf: Shelf
    @ObservationIgnored let store: SessionStore
    @ObservationIgnored let engine: any Engine
    @ObservationIgnored let decoder: any PhotoDecoder
    @ObservationIgnored let makeSeed: @Sendable () -> UInt64
    @ObservationIgnored private let log: @Sendable (String) -> Void
    /// What outlives the process.
    @ObservationIgnored private(set) var session: Session
    /// Whether the person no longer wants what `work` does.
    @ObservationIgnored let isCancelled = Shared(false)
    @ObservationIgnored var stop = Shared<Stretch.Stop?>(nil)
    @ObservationIgnored var smoothed = Smoothed()
    @ObservationIgnored var job: Task<Void, Never>?
    @ObservationIgnored private(set) var isVisible = false

    /// - Parameters:
    ///   - makeSeed: a new run's seed.
    ///   - log: gets the library's own lines of what failed.
    public init(
        shelf: Shelf, store: SessionStore, engine: any Engine, decoder: any PhotoDecoder,
        makeSeed: @escaping @Sendable () -> UInt64, log: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        (self.shelf, self.store, self.engine, self.decoder) = (shelf, store, engine, decoder)
        (self.makeSeed, self.log) = (makeSeed, log)
        let session = store.load()
        store.keepPhotos(session.photos)
        self.session = session
        let bundles = shelf.list()
        screen = Screen(rawValue: session.stage.rawValue) ?? .choosing
        self.bundles = bundles
        bundle = bundles.first { $0.name == session.bundle }
        photos = session.photos.map(store.photo)
        (word, initializer) = (session.word, session.initializer)
        if session.stage == .learning {
            learning = Learning(
                phase: .paused, pause: session.isPausedByPerson ? .person : .interrupted, step: session.step,
                steps: session.steps, heldOutBefore: session.lossBefore)
        }
    }

    // MARK: The app and the phone

    /// The app is on the screen: what was interrupted goes on.
    public func appear() {
        isVisible = true
        switch screen {
        case .choosing: refreshBundles()
        case .learning: if learning.pause == .interrupted { goOn() }
        case .result: showResult()
        case .measuring: break
        }
    }

    /// The app is no longer on the screen, but may go on for a while.
    public func hide() {
        isVisible = false
        save()
    }

    /// iOS gives the app time in the background.
    public func receiveTime() { if wantsTime, learning.pause != .person { goOn() } }

    /// iOS is about to stop the app: learning rests after the step in hand, and frees its memory.
    public func interrupt() {
        guard screen == .learning, learning.phase == .preparing || learning.phase == .running else { return }
        rest(.interrupted)
    }

    /// Whether there is something to go on with when iOS gives the app time in the background.
    public var wantsTime: Bool {
        screen == .learning
            && (learning.phase != .paused || learning.pause == .interrupted || learning.pause?.isAutomatic == true)
    }

    /// What the phone tells about itself: learning rests and goes on.
    public func read(_ reading: Reading) {
        if self.reading != reading { self.reading = reading }
        guard screen == .learning else { return }
        let needed = reading.neededPause
        if learning.phase == .paused, learning.pause?.isAutomatic == true {
            if let needed { setPaused(needed) } else { learn() }
        } else if let needed, learning.phase == .preparing || learning.phase == .running {
            rest(needed)
        }
    }

    /// Takes the message off the screen.
    public func dismiss() { message = nil }

    /// Waits until nothing runs any more.
    public func settle() async {
        while let running = job {
            await running.value
            if running == job { job = nil }
        }
    }

    // MARK: For the screens' extensions

    func say(_ message: Message) {
        if let detail = message.detail { log(detail) }
        self.message = message
    }

    /// Changes what outlives the process, without saving it yet.
    func note(_ change: (inout Session) -> Void) {
        change(&session)
        photos = session.photos.map(store.photo)
        (word, initializer) = (session.word, session.initializer)
    }

    /// Saves what outlives the process; a phone that is full is a sentence, and what was saved before stays.
    func save() {
        do { try store.save(session) } catch { say(problem(of: error, .savingFailed).said) }
    }

    func change(_ change: (inout Session) -> Void) {
        note(change)
        save()
    }

    /// Runs what takes time, one thing at a time; what fails is said.
    /// - Parameter then: gets what `action` gave, back here.
    func perform<Value: Sendable>(
        _ kind: Work.Kind, otherwise: Key, _ action: @escaping @Sendable () async throws -> Value,
        then: @escaping @MainActor (Value) -> Void
    ) {
        guard work == nil else { return }
        isCancelled.value = false
        (work, message) = (Work(kind: kind), nil)
        job = Task {
            do {
                let value = try await Task.detached(priority: .userInitiated, operation: action).value
                work = nil
                then(value)
            } catch {
                work = nil
                say(problem(of: error, otherwise).said)
            }
        }
    }

    /// How far `work` is; called from anywhere. Gives whether to go on.
    nonisolated func progress(_ amount: Int, of total: Int = 0) -> Bool {
        Task { @MainActor in
            guard let now = work, now.amount < amount else { return }
            work = Work(kind: now.kind, amount: amount, total: total)
        }
        return !isCancelled.value
    }

    /// Ends what `work` does; nothing half-done stays.
    public func cancel() { isCancelled.value = true }

    /// Opens the bundle that the session has begun with.
    /// - Throws: `Problem`: the sentence to show.
    nonisolated func open(_ session: Session) async throws -> any OpenedBundle {
        let name = session.bundle ?? ""
        guard let info = shelf.list().first(where: { $0.name == name }) else {
            throw Problem(said: Message(.bundleMissing, name))
        }
        guard info.digest == session.digest else { throw Problem(said: Message(.bundleChanged, name)) }
        return try await shelf.examine(shelf.folder(of: name), name)
    }

    /// Back to the first screen with the photos; what a run has made is deleted.
    func beginAgain() {
        store.dropResult()
        change {
            $0.stage = .choosing
            $0.word = bare($0.word)
        }
        (screen, learning, outcome, message) = (.choosing, Learning(), Outcome(), nil)
    }
}

/// A word without its brackets: `<mug>` is `mug`.
func bare(_ word: String) -> String {
    let trimmed = word.trimmingCharacters(in: .whitespacesAndNewlines)
    return trimmed.hasPrefix("<") && trimmed.hasSuffix(">") && trimmed.count > 1
        ? String(trimmed.dropFirst().dropLast()) : trimmed
}
