import EdgeSystem
import EdgeZO

/// One sentence for the person who holds the phone.
///
/// The words are in the string catalog, in every language of the app: ``Key/resource`` is the key, `arguments` fill its places.
public struct Message: Equatable, Sendable {
    public let key: Key
    public let arguments: [String]
    /// The library's own line, for the log; nil if there is none.
    public let detail: String?

    public init(_ key: Key, _ arguments: String..., detail: String? = nil) {
        self.init(key: key, arguments: arguments, detail: detail)
    }

    init(key: Key, arguments: [String], detail: String? = nil) {
        (self.key, self.arguments, self.detail) = (key, arguments, detail)
    }
}

/// What the app has to say. The names are those of the Android app.
public enum Key: String, CaseIterable, Sendable {
    case bundleReady  // name
    case bundleMissing  // name
    case bundleWithoutManifest  // name
    case bundleCut  // name, file
    case bundleRefused  // name
    case bundleOtherRuntime  // name
    case bundleOtherVersion  // name
    case bundleChanged  // name
    case sourceUnreadable  // name
    case noSpace  // MB that are free
    case noMemory
    case photosUnreadable  // how many, of how many
    case photosTooMany  // most
    case wordRefused  // word
    case stateRefused
    case learningFailed
    case pictureFailed
    case promptWithoutWord  // word
    case measured  // file
    case measuringFailed
    case saved
    case savingFailed

    /// How many places the sentence has.
    public var arguments: Int {
        switch self {
        case .bundleCut, .photosUnreadable: 2
        case .noMemory, .stateRefused, .learningFailed, .pictureFailed, .measuringFailed, .saved, .savingFailed: 0
        default: 1
        }
    }

    /// The key of the string catalog: `bundleCut` is `message_bundle_cut`.
    public var resource: String { "message_" + snakeCase(rawValue) }
}

/// `lowPower` as `low_power`.
func snakeCase(_ name: String) -> String {
    name.reduce(into: "") { out, letter in out += letter.isUppercase ? "_" + letter.lowercased() : String(letter) }
}

/// Something that the person has to know; the message is what the screen shows.
struct Problem: Error {
    let said: Message
}

/// The sentence for a failure.
/// - Parameter otherwise: what to say of a failure of the library.
func problem(of error: any Error, _ otherwise: Key) -> Problem {
    switch error {
    case let problem as Problem: problem
    case is UnreadablePhoto: Problem(said: Message(.photosUnreadable, "1", "1", detail: "\(error)"))
    case is WritingError: Problem(said: Message(.savingFailed, detail: "\(error)"))
    default: Problem(said: Message(otherwise, detail: "\(error)"))
    }
}
