// What we believe of BackgroundTasks; above each Apple's documented declaration. See ../CoreML/CoreML.swift.
@_exported import Foundation

// class BGTask
open class BGTask {
    init() {}
    // var expirationHandler: (() -> Void)? { get set }
    public var expirationHandler: (() -> Void)?
    // func setTaskCompleted(success: Bool)
    public func setTaskCompleted(success: Bool) {}
}

// class BGTaskRequest
open class BGTaskRequest { init() {} }

// class BGProcessingTaskRequest
public final class BGProcessingTaskRequest: BGTaskRequest {
    // init(identifier: String)
    public init(identifier: String) { super.init() }
    // var requiresExternalPower: Bool { get set }     var requiresNetworkConnectivity: Bool { get set }
    public var requiresExternalPower = false
    public var requiresNetworkConnectivity = false
}

// class BGContinuedProcessingTask : ProgressReporting     iOS 26.0
public final class BGContinuedProcessingTask: BGTask {
    // var progress: Progress { get }     of ProgressReporting
    public let progress = Progress(totalUnitCount: 0)
    // var title: String { get }     var subtitle: String { get }
    public var title: String { "" }
    public var subtitle: String { "" }
    // func updateTitle(_ title: String, subtitle: String)
    public func updateTitle(_ title: String, subtitle: String) {}
}

// class BGContinuedProcessingTaskRequest     iOS 26.0
public final class BGContinuedProcessingTaskRequest: BGTaskRequest {
    // enum SubmissionStrategy     case fail, queue
    public enum SubmissionStrategy: Sendable { case fail, queue }
    // init(identifier: String, title: String, subtitle: String)
    public init(identifier: String, title: String, subtitle: String) { super.init() }
    // var strategy: BGContinuedProcessingTaskRequest.SubmissionStrategy { get set }
    public var strategy = SubmissionStrategy.queue
}

// class BGTaskScheduler
public final class BGTaskScheduler: @unchecked Sendable {
    // class var shared: BGTaskScheduler { get }
    public static let shared = BGTaskScheduler()
    // func register(forTaskWithIdentifier identifier: String, using queue: dispatch_queue_t?, launchHandler: @escaping (BGTask) -> Void) -> Bool
    @discardableResult
    public func register(
        forTaskWithIdentifier identifier: String, using queue: DispatchQueue?, launchHandler: @escaping (BGTask) -> Void
    ) -> Bool {
        false
    }
    // func submit(_ taskRequest: BGTaskRequest) throws
    public func submit(_ taskRequest: BGTaskRequest) throws {}
}
