import EdgePhotos
import EdgeZO
import Foundation

/// The steps of a run, each of which is taken when it is asked for.
///
/// Leave the loop or cancel its task whenever it is enough; the personalizer then has what was learned so far. Iterated a
/// second time it goes on where it was left.
public struct Learning: AsyncSequence, Sendable {
    public typealias Element = Step

    let personalizer: Personalizer
    let request: Request

    public func makeAsyncIterator() -> Iterator { Iterator(personalizer: personalizer, request: request) }

    public struct Iterator: AsyncIteratorProtocol {
        let personalizer: Personalizer
        let request: Request

        public func next() async throws -> Step? { try await personalizer.step(of: request) }
    }

    /// What was asked for, once.
    final class Request: Sendable {
        let photos: [Photo], placeholder: String, initializer: String?, options: FitOptions
        private let lock = NSLock()
        nonisolated(unsafe) private var isBegun = false

        init(photos: [Photo], placeholder: String, initializer: String?, options: FitOptions) {
            (self.photos, self.placeholder, self.initializer, self.options) = (
                photos, placeholder, initializer, options
            )
        }

        /// Cancelled before its first step: it may begin once more.
        func forget() { lock.withLock { isBegun = false } }

        /// True the first time.
        func begin() -> Bool {
            lock.withLock {
                defer { isBegun = true }
                return !isBegun
            }
        }
    }
}
