import Dispatch

/// Runs an actor's work on a queue of its own, one job after the other. A forward pass takes seconds: on Swift's pool,
/// which has a thread a core, it would keep other tasks from running.
final class QueueExecutor: SerialExecutor {
    private let queue = DispatchQueue(label: "edge.sdk.personalizer", qos: .userInitiated)

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job), executor = asUnownedSerialExecutor()
        queue.async { job.runSynchronously(on: executor) }
    }

    func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }
}
