import EdgeSystem
import EdgeZO
import Foundation

/// Values of JSON checked against a table of what is accepted: the twin of edge_sdk/system/schema.py.
///
/// Entries that a table does not have are left alone.
indirect enum Kind: Sendable {
    case whole(ClosedRange<Int>)
    case number(ClosedRange<Double>)
    case bool
    case text
    case null
    case anything
    case anyObject
    case oneOf([String])
    case many(Kind, ClosedRange<Int> = 0...(1 << 24))
    case either([Kind])
    case maybe(Kind)  // an entry that may be missing
    case entries([(String, Kind)])  // an object with these entries
    case named(Kind)  // an object of any names

    static let largest = 3e38  // of a Float, about
    static let real = number(-largest...largest)

    /// Check a value.
    ///
    /// - Parameter name: of the value, such as `embedding.0.scale`.
    /// - Throws: `EdgeSdkError`, one line that names the entry and says what is accepted.
    func check(_ value: Json, _ name: String = "") throws {
        switch self {
        case .maybe(let kind):
            try kind.check(value, name)
        case .entries(let kinds):
            guard case .object = value else { throw refusal(value, name) }
            for (key, kind) in kinds {
                let inner = name.isEmpty ? key : "\(name).\(key)"
                if let entry = value[key] {
                    try kind.check(entry, inner)
                } else if case .maybe = kind {
                    continue
                } else {
                    throw EdgeSdkError("\(inner) is missing")
                }
            }
        case .named(let kind):
            guard case .object(let entries) = value else { throw refusal(value, name) }
            for (key, entry) in entries { try kind.check(entry, name.isEmpty ? key : "\(name).\(key)") }
        case .many(let kind, let counts):
            guard case .list(let values) = value, counts.contains(values.count) else { throw refusal(value, name) }
            for (i, each) in values.enumerated() { try kind.check(each, name.isEmpty ? "\(i)" : "\(name).\(i)") }
        case .either(let kinds):
            try checkEither(kinds, value, name)
        default:
            guard fits(value) else { throw refusal(value, name) }
        }
    }

    private func fits(_ value: Json) -> Bool {
        switch (self, value) {
        case (.whole(let range), _): value.int.map(range.contains) ?? false
        case (.number(let range), _): value.double.map(range.contains) ?? false
        case (.anything, _), (.bool, .bool), (.text, .text), (.null, .null), (.anyObject, .object): true
        case (.oneOf(let words), .text(let word)): words.contains(word)
        default: false
        }
    }

    /// Of a list or an object that is accepted in one form only, the message names what is wrong inside.
    private func checkEither(_ kinds: [Kind], _ value: Json, _ name: String) throws {
        var inside: [any Error] = []
        for kind in kinds {
            do { return try kind.check(value, name) } catch {
                switch (kind, value) {
                case (.many, .list), (.entries, .object), (.named, .object): inside.append(error)
                default: break
                }
            }
        }
        throw inside.count == 1 ? inside[0] : refusal(value, name)
    }

    private func refusal(_ value: Json, _ name: String) -> EdgeSdkError {
        EdgeSdkError("\(name.isEmpty ? "the whole" : shown(name)) is \(value.short), not \(inWords)")
    }

    private func short(_ value: Double) -> String { String(format: "%g", value) }

    /// The kind in words.
    private var inWords: String {
        switch self {
        case .whole(let range): "an integer from \(range.lowerBound) to \(range.upperBound)"
        case .number(let range) where range.lowerBound == -Self.largest: "a finite number"
        case .number(let range) where range.upperBound == Self.largest: "a number of at least \(short(range.lowerBound))"
        case .number(let range): "a number from \(short(range.lowerBound)) to \(short(range.upperBound))"
        case .bool: "true or false"
        case .text: "a text"
        case .null: "null"
        case .anything: "a value"
        case .anyObject, .entries, .named: "an object"
        case .oneOf(let words): words.count == 1 ? words[0] : "one of \(words.joined(separator: ", "))"
        case .many(_, let counts):
            counts.upperBound < 1 << 24 ? "a list of \(counts.lowerBound) to \(counts.upperBound) values" : "a list"
        case .either(let kinds): kinds.map(\.inWords).joined(separator: " or ")
        case .maybe(let kind): kind.inWords
        }
    }
}

extension Json {
    /// The value in at most 60 printable characters.
    var short: String {
        switch self {
        case .null: "null"
        case .bool(let flag): "\(flag)"
        case .number(let digits): String(digits.prefix(60))
        case .text(let text): "'\(shown(text))'"
        case .list(let values): "a list of \(values.count)"
        case .object(let entries): "an object of \(entries.count)"
        }
    }
}

/// A text of a file for a message: one line of at most 60 printable ASCII characters.
func shown(_ text: String) -> String {
    let ascii = text.unicodeScalars.prefix(60).map {
        $0.value >= 32 && $0.value < 127 ? String($0) : $0.escaped(asASCII: true)
    }
    let whole = ascii.joined()
    return whole.count <= 60 ? whole : "\(whole.prefix(57))..."
}
