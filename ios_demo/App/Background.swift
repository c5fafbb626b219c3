import BackgroundTasks
import EdgeModel
import Foundation
import Observation

/// Learning while the app is not on the screen, as far as iOS allows.
///
/// Three ways, none of which is a promise: the seconds that every app gets to end its step; a processing task, which iOS starts
/// when the phone is idle and charging; and from iOS 26 on a continued task, which goes on where the person began it, under the
/// system's own progress bar. Whatever iOS does, the state is whole after each step.
@MainActor
@Observable
final class Background {
    /// Whether iOS lets the run go on behind other apps.
    fileprivate(set) var isContinued = false

    @ObservationIgnored fileprivate let model: AppModel
    @ObservationIgnored fileprivate let name = Foundation.Bundle.main.bundleIdentifier ?? "edge-sdk"
    private var later: String { "\(name).later" }

    init(_ model: AppModel) {
        self.model = model
        BGTaskScheduler.shared.register(forTaskWithIdentifier: later, using: .main) { [weak self] task in
            MainActor.assumeIsolated { self?.run(task) }
        }
    }

    /// The app leaves the screen.
    func enter() {
        model.hide()
        guard model.wantsTime else { return }
        schedule()
        guard !isContinued else { return }
        let giveBack = Device.takeLastSeconds { self.model.interrupt() }
        Task {
            await model.settle()
            giveBack()
        }
    }

    /// Looks after the device as long as the app lives.
    func watch() async {
        while !Task.isCancelled {
            model.read(Device.reading())
            try? await Task.sleep(nanoseconds: 2_000_000_000)
        }
    }

    /// Asks for a time when the phone is idle and charging.
    private func schedule() {
        let request = BGProcessingTaskRequest(identifier: later)
        request.requiresExternalPower = true
        request.requiresNetworkConnectivity = false
        try? BGTaskScheduler.shared.submit(request)  // refused where the person switched background refresh off
    }

    /// Goes on for as long as iOS lets it.
    private func run(_ task: BGTask) {
        task.expirationHandler = { [weak self] in Task { @MainActor in self?.model.interrupt() } }
        model.receiveTime()
        Task {
            await model.settle()
            if model.wantsTime { schedule() }
            task.setTaskCompleted(success: !model.wantsTime)
        }
    }
}

// The SDK of iOS 26 comes with Swift 6.2.
#if compiler(>=6.2) || EDGE_STUBS
    extension Background {
        /// Asks iOS to let the run that the person has just begun go on behind other apps.
        func askToContinue() {
            guard #available(iOS 26, *), !isContinued, model.screen == .learning else { return }
            let identifier = "\(name).learn.\(UUID().uuidString)"
            let isRegistered = BGTaskScheduler.shared.register(forTaskWithIdentifier: identifier, using: .main) {
                [weak self] task in
                MainActor.assumeIsolated { if let task = task as? BGContinuedProcessingTask { self?.follow(task) } }
            }
            guard isRegistered else { return }
            let request = BGContinuedProcessingTaskRequest(
                identifier: identifier, title: sentence("learning_title", [model.word]),
                subtitle: sentence("phase_preparing"))
            request.strategy = .fail  // now or not at all: the run has begun already
            try? BGTaskScheduler.shared.submit(request)
        }

        /// Tells iOS how far the run is; it ends tasks that do not move.
        @available(iOS 26, *)
        private func follow(_ task: BGContinuedProcessingTask) {
            isContinued = true
            task.expirationHandler = { [weak self] in Task { @MainActor in self?.model.interrupt() } }
            let reporting = Task {
                while !Task.isCancelled {
                    let learning = model.learning
                    task.progress.totalUnitCount = Int64(max(1, learning.steps))
                    task.progress.completedUnitCount = Int64(learning.step)
                    let line = sentence("step_line", ["\(learning.step)", "\(learning.steps)"])
                    task.updateTitle(task.title, subtitle: learning.steps > 0 ? line : task.subtitle)
                    try? await Task.sleep(nanoseconds: 1_000_000_000)
                }
            }
            Task {
                await model.settle()
                reporting.cancel()
                isContinued = false
                task.setTaskCompleted(success: model.screen != .learning)
            }
        }
    }
#else
    extension Background {
        func askToContinue() {}
    }
#endif
