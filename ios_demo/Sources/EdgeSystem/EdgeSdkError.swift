import Foundation

/// What a user or a caller can cause: one line that says what was given, what is accepted, and what to do.
public struct EdgeSdkError: Error, Equatable, Sendable, CustomStringConvertible, LocalizedError {
    public let message: String

    public init(_ message: String) { self.message = message }

    public var description: String { message }
    public var errorDescription: String? { message }
}
