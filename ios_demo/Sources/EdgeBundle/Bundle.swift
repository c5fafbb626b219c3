import EdgeZO
import Foundation

/// A checked bundle.
public struct Bundle: Sendable {
    public let folder: URL
}
