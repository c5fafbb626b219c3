import EdgeSystem
import EdgeZO
import Foundation

/// An option of a command.
struct Option: Sendable {
    enum Kind: Sendable {
        case text, flag
        /// So many words that follow.
        case words(Int)
    }

    /// With underscores, as everywhere in this project.
    let name: String
    var kind = Kind.text
    /// What stands for the value in the help.
    var value = ""
    let help: String
    var isRequired = false
}

/// The options of a command line. Dashes within a name are taken for underscores, and `--name=value` for two words.
struct Arguments {
    private var values: [String: [String]] = [:]
    let isHelp: Bool

    /// - Throws: `EdgeSdkError`, one line: an unknown option, with what is spelled alike; one without its value; one twice;
    ///   or a required one that is missing.
    init(_ words: [String], _ options: [Option]) throws {
        let known = Dictionary(uniqueKeysWithValues: options.map { ($0.name, $0) })
        isHelp = words.contains("--help") || words.contains("-h")
        if isHelp { return }
        var rest = words[...]
        while let word = rest.popFirst() {
            guard word.hasPrefix("--") else { throw EdgeSdkError("\(quoted(word)) is no option; see --help") }
            let parts = word.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = parts[0].replacingOccurrences(of: "-", with: "_")
            guard let option = known[name] else {
                throw EdgeSdkError(
                    "unknown option \(quoted("--\(parts[0])"))\(Self.alike(name, options.map(\.name))); see --help")
            }
            guard values[name] == nil else { throw EdgeSdkError("--\(name) is given twice; give it once") }
            if parts.count > 1 { rest = [String(parts[1])] + rest }
            let count: Int
            switch option.kind {
            case .flag:
                guard parts.count == 1 else { throw EdgeSdkError("--\(name) takes no value; leave out what follows =") }
                count = 0
            case .text: count = 1
            case .words(let some): count = some
            }
            let taken = rest.prefix(count)
            guard taken.count == count, !taken.contains(where: { $0.hasPrefix("--") }) else {
                throw EdgeSdkError("--\(name) needs \(count == 1 ? "a value" : "\(count) values"); see --help")
            }
            rest = rest.dropFirst(count)
            values[name] = Array(taken)
        }
        if let missing = options.first(where: { $0.isRequired && values[$0.name] == nil }) {
            throw EdgeSdkError("--\(missing.name) is required: \(missing.help); see --help")
        }
    }

    func has(_ name: String) -> Bool { values[name] != nil }
    func words(_ name: String) -> [String]? { values[name] }
    func text(_ name: String) -> String? { values[name]?.first }

    /// A folder or file; a leading ~ is the home folder, as a shell has it.
    func url(_ name: String) -> URL? {
        text(name).map { URL(fileURLWithPath: NSString(string: $0).expandingTildeInPath) }
    }

    /// - Throws: `EdgeSdkError`: it is no integer in this range.
    func int(_ name: String, _ range: ClosedRange<Int>) throws -> Int? {
        guard let text = text(name) else { return nil }
        guard let value = Int(text), range.contains(value) else {
            throw EdgeSdkError(
                "\(name) is \(quoted(text)); it must be an integer from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// - Throws: `EdgeSdkError`: it is no finite number.
    func number(_ name: String) throws -> Float? {
        guard let text = text(name) else { return nil }
        guard let value = Float(text), value.isFinite else {
            throw EdgeSdkError("\(name) is \(quoted(text)); it must be a number")
        }
        return value
    }

    /// A seed of 64 bits.
    func seed() throws -> UInt64 {
        guard let text = text("seed") else { return 0 }
        guard let value = UInt64(text) else {
            throw EdgeSdkError("seed is \(quoted(text)); it must be an integer of at least 0 and below 2**64")
        }
        return value
    }

    /// - Throws: `EdgeSdkError`: it is none of these words.
    func choice(_ name: String, _ accepted: [String]) throws -> String? {
        guard let text = text(name) else { return nil }
        guard accepted.contains(text) else {
            throw EdgeSdkError("\(name) is \(quoted(text)); it must be one of \(accepted.joined(separator: ", "))")
        }
        return text
    }

    /// "; did you mean --x?" with the name that takes the fewest changes, if these are few.
    private static func alike(_ given: String, _ names: [String]) -> String {
        let closest = names.map { (name: $0, changes: changes(Array(given), Array($0))) }.min {
            $0.changes < $1.changes
        }
        guard let closest, closest.changes <= max(2, given.count / 3) else { return "" }
        return "; did you mean --\(closest.name)?"
    }

    /// Letters to add, remove or replace (Levenshtein).
    private static func changes(_ a: [Character], _ b: [Character]) -> Int {
        var row = Array(0...b.count)
        for (i, letter) in a.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, other) in b.enumerated() {
                let above = row[j + 1]
                row[j + 1] = letter == other ? diagonal : 1 + min(diagonal, above, row[j])
                diagonal = above
            }
        }
        return row[b.count]
    }

    static func help(_ command: any Command.Type) -> String {
        let lines = command.options.map { option in
            "  --\(option.name)\(option.value.isEmpty ? "" : " \(option.value)")\n        \(option.help)"
        }
        return "usage: \(command.usage)\n\n\(command.about)\n\noptions:\n\(lines.joined(separator: "\n"))"
    }
}

/// A word of the user in a message: at most 60 characters.
func quoted(_ word: String) -> String { "'\(word.prefix(60))'" }
