// What we believe of UIKit, and of Foundation's parts that Linux lacks; above each Apple's documented declaration.
// See ../CoreML/CoreML.swift.
@_exported import CoreGraphics
@_exported import Foundation

// @MainActor class UIDevice
@MainActor public final class UIDevice {
    // class var current: UIDevice { get }
    public static let current = UIDevice()
    // var isBatteryMonitoringEnabled: Bool { get set }
    public var isBatteryMonitoringEnabled = false
    // var batteryLevel: Float { get }     -1.0 where it is not known
    public var batteryLevel: Float { -1 }
    // var systemName: String { get }     var systemVersion: String { get }
    public var systemName: String { "" }
    public var systemVersion: String { "" }
}

// struct UIBackgroundTaskIdentifier
public struct UIBackgroundTaskIdentifier: Sendable {}

// @MainActor class UIApplication
@MainActor public final class UIApplication {
    // class var shared: UIApplication { get }
    public static let shared = UIApplication()
    // nonisolated func beginBackgroundTask(withName taskName: String?, expirationHandler handler: (@MainActor @Sendable () -> Void)? = nil) -> UIBackgroundTaskIdentifier
    public func beginBackgroundTask(
        withName taskName: String?, expirationHandler handler: (@MainActor @Sendable () -> Void)? = nil
    ) -> UIBackgroundTaskIdentifier { UIBackgroundTaskIdentifier() }
    // func endBackgroundTask(_ identifier: UIBackgroundTaskIdentifier)
    public func endBackgroundTask(_ identifier: UIBackgroundTaskIdentifier) {}
}

// class UIImage
public final class UIImage: Sendable {
    // init?(contentsOfFile path: String)
    public init?(contentsOfFile path: String) { nil }
    // func byPreparingThumbnail(ofSize size: CGSize) async -> UIImage?
    public func byPreparingThumbnail(ofSize size: CGSize) async -> UIImage? { nil }
}

extension ProcessInfo {
    // enum ThermalState : Int, @unchecked Sendable     case nominal, fair, serious, critical
    public enum ThermalState: Int, @unchecked Sendable { case nominal, fair, serious, critical }
    // var thermalState: ProcessInfo.ThermalState { get }
    public var thermalState: ThermalState { .nominal }
    // var isLowPowerModeEnabled: Bool { get }
    public var isLowPowerModeEnabled: Bool { false }
}

extension URL {
    // func startAccessingSecurityScopedResource() -> Bool     func stopAccessingSecurityScopedResource()
    public func startAccessingSecurityScopedResource() -> Bool { false }
    public func stopAccessingSecurityScopedResource() {}
}

// class FileWrapper     init(regularFileWithContents contents: Data)     var regularFileContents: Data? { get }
public final class FileWrapper {
    public init(regularFileWithContents contents: Data) {}
    public var regularFileContents: Data? { nil }
}
