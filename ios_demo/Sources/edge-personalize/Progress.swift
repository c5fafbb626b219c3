import EdgeRuntime
import EdgeZO
import Foundation

/// Lines on stderr while a command works: one every few seconds, and the last one of each stage.
final class ProgressLines: @unchecked Sendable {
    private let isQuiet: Bool
    private let lock = NSLock()
    private var last = -Double.infinity
    private var loss = Double.nan
    private static let every = 10.0  // seconds

    init(isQuiet: Bool) { self.isQuiet = isQuiet }

    func stage(_ progress: FitOptions.Progress) {
        let name = progress.stage == .encodingPhotos ? "encoding photos" : "measuring the loss on held-out draws"
        write("\(name) \(progress.done)/\(progress.of)", isLast: progress.done == progress.of)
    }

    func step(_ step: Step) {
        if step.skipped {
            write("step \(step.step): the loss was not finite, the step was left out", isLast: true)
            return
        }
        // Draws differ a lot, so the loss is smoothed.
        let before = loss.isNaN ? step.loss : loss
        loss = before + min(1, max(0.05, 8 / Double(step.steps))) * (step.loss - before)
        let memory = ProcessMemory.now().resident.map { String(format: "  memory %.0f MB", $0) } ?? ""
        let left = Int(step.etaSeconds.rounded())
        let eta = "\(left / 60):\(String(format: "%02d", left % 60))"
        write(
            "\(step.step)/\(step.steps)  step loss \(String(format: "%.4f", loss))  forwards \(step.forwards)  ETA "
                + "\(eta)\(memory)",
            isLast: step.step == step.steps)
    }

    private func write(_ line: String, isLast: Bool) {
        let now = ProcessInfo.processInfo.systemUptime
        let isDue = lock.withLock {
            guard !isQuiet, isLast || now - last >= Self.every else { return false }
            last = now
            return true
        }
        if isDue { Terminal.write(line) }
    }
}

/// The signals that end a command: the first one asks for a stop, the second one ends the process at once.
final class StopSignal: @unchecked Sendable {
    private var sources: [any DispatchSourceSignal] = []
    private let lock = NSLock()
    private var isRequested = false
    private var action: (@Sendable () -> Void)?

    init() {
        for number in [SIGINT, SIGTERM, SIGHUP] {
            if number == SIGHUP, isIgnored(number) { continue }  // under nohup
            signal(number, SIG_IGN)  // the source takes it
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { [self] in handle() }
            source.resume()
            sources.append(source)
        }
    }

    /// What the first signal does; at once if it has come already.
    func onSignal(_ action: @escaping @Sendable () -> Void) {
        lock.lock()
        self.action = action
        let isLate = isRequested
        lock.unlock()
        if isLate { action() }
    }

    private func handle() {
        lock.lock()
        let (isSecond, action) = (isRequested, action)
        isRequested = true
        lock.unlock()
        if isSecond { exit(Main.cancelled) }
        action?()
    }

    private func isIgnored(_ number: Int32) -> Bool {
        var current = sigaction()
        sigaction(number, nil, &current)
        #if canImport(Darwin)
            return current.__sigaction_u.__sa_handler == nil
                ? false : unsafeBitCast(current.__sigaction_u.__sa_handler, to: Int.self) == 1
        #else
            return unsafeBitCast(current.__sigaction_handler.sa_handler, to: Int.self) == 1
        #endif
    }
}
