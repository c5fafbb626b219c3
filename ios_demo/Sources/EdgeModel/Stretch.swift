import EdgeSystem
import EdgeZO
import Foundation

/// What happens while learning, in this order; `paused` instead of `learned` if it was stopped.
enum Event: Sendable {
    case stepped(StepProgress, heldOutBefore: Double?)
    case paused
    case learned(HeldOut)
    case failed(Message)
}

/// Learning away from the main actor, from the last checkpoint until the end or until it is stopped.
///
/// A pause ends the stretch and frees all memory; going on is a new stretch. So a pause, a process that iOS ends and a phone
/// that is switched off take the same way back, and an app at rest holds no model.
struct Stretch: Sendable {
    enum Stop: Sendable { case pause, finish }

    let open: @Sendable () async throws -> any OpenedBundle
    let store: SessionStore
    let decoder: any PhotoDecoder
    let session: Session
    /// Set by the main actor; looked at after each step.
    let stop: Shared<Stop?>

    /// The events; they end after one that is no step.
    func events() -> AsyncStream<Event> {
        AsyncStream { stream in
            Task.detached(priority: .userInitiated) {
                do { try await run { stream.yield($0) } } catch {
                    stream.yield(.failed(problem(of: error, .learningFailed).said))
                }
                stream.finish()
            }
        }
    }

    private func run(_ report: (Event) -> Void) async throws {
        let model = try await open()
        let resume = store.checkpoint()
        let photos = try session.photos.map { try decoder.decode(store.photo($0), side: model.resolution) }
        let task = LearningTask(
            photos: photos, word: session.word, initializer: session.initializer, seed: session.seed, resume: resume,
            checkpoint: { [store] in try store.save(checkpoint: $0) })
        var hasToken = resume != nil, hasStepped = false
        if stop.value == nil || (stop.value == .finish && hasToken) {
            do {
                try await model.learn(task) { step, heldOut in
                    (hasToken, hasStepped) = (true, true)
                    report(.stepped(step, heldOutBefore: heldOut.before))
                    return stop.value == nil
                }
            } catch let error as EdgeSdkError where !hasStepped {
                let key: Key = resume == nil ? .wordRefused : .stateRefused
                let words = resume == nil ? [session.word] : []
                throw Problem(said: Message(key: key, arguments: words, detail: error.message))
            }
        }
        guard stop.value != .pause, hasToken else { return report(.paused) }
        try store.save(token: await model.token())
        report(.learned(await model.heldOut))
    }
}

/// A value that two threads read and write.
final class Shared<Value: Sendable>: @unchecked Sendable {
    private let lock = NSLock()
    private var stored: Value

    init(_ value: Value) { stored = value }

    var value: Value {
        get { lock.withLock { stored } }
        set { lock.withLock { stored = newValue } }
    }
}
