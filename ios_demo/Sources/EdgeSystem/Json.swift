import Foundation

/// JSON as Python's `json` module reads and writes it, and stricter: a key that is given twice is refused.
///
/// Foundation's own readers keep one of two equal keys, and know neither `1` from `1.0` nor `NaN`.
public indirect enum Json: Equatable, Sendable {
    case null
    case bool(Bool)
    /// As it is spelled: a point or an exponent makes it a fraction, and an integer may have 64 bits without a sign.
    case number(String)
    case text(String)
    case list([Json])
    /// In the order of the text.
    case object([(key: String, value: Json)])

    /// How deep lists and objects may be nested.
    public static let maxDepth = 100

    /// Reads one value.
    /// - Throws: `EdgeSdkError`, without the name of the file: what is wrong, and at which byte.
    public static func parse(_ bytes: some Collection<UInt8>) throws -> Json {
        var reader = JsonReader(Array(bytes))
        return try reader.document()
    }

    public static func number(_ value: Int) -> Json { .number(String(value)) }
    public static func number(_ value: UInt64) -> Json { .number(String(value)) }
    public static func number(_ value: Double) -> Json { .number(pythonSpelling(value)) }

    public subscript(key: String) -> Json? { entries?.first { $0.key == key }?.value }

    public var entries: [(key: String, value: Json)]? { if case .object(let entries) = self { entries } else { nil } }
    public var items: [Json]? { if case .list(let items) = self { items } else { nil } }
    public var string: String? { if case .text(let text) = self { text } else { nil } }
    public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    public var isNull: Bool { self == .null }

    /// An integer; nil for a fraction, and for one that does not fit.
    public var int: Int? { if case .number(let text) = self { Int(text) } else { nil } }
    public var uint64: UInt64? { if case .number(let text) = self { UInt64(text) } else { nil } }
    /// Any number, `NaN` and infinities included.
    public var double: Double? {
        guard case .number(let text) = self else { return nil }
        return Double(text)
    }

    public static func == (a: Json, b: Json) -> Bool {
        switch (a, b) {
        case (.null, .null): true
        case (.bool(let x), .bool(let y)): x == y
        case (.number(let x), .number(let y)): x == y
        case (.text(let x), .text(let y)): x == y
        case (.list(let x), .list(let y)): x == y
        case (.object(let x), .object(let y)): x.elementsEqual(y) { $0.key == $1.key && $0.value == $1.value }
        default: false
        }
    }
}

extension Json {
    /// How a text is written.
    public struct Style: Sendable {
        /// `\uXXXX` for letters beyond ASCII.
        public var ascii = true
        public var betweenEntries = ", "
        public var afterKey = ": "
        /// Spaces a level; nil for one line.
        public var indent: Int?

        /// Python's `json.dumps(value)`.
        public static let python = Style()
        /// Python's `json.dumps(value, separators=(",", ":"), ensure_ascii=False)`.
        public static let compact = Style(ascii: false, betweenEntries: ",", afterKey: ":")
        /// Python's `json.dumps(value, indent=2)`.
        public static let indented = Style(betweenEntries: ",", indent: 2)

        public init(ascii: Bool = true, betweenEntries: String = ", ", afterKey: String = ": ", indent: Int? = nil) {
            self.ascii = ascii
            self.betweenEntries = betweenEntries
            self.afterKey = afterKey
            self.indent = indent
        }
    }

    public func written(_ style: Style = .python) -> String {
        var out = ""
        write(to: &out, style, depth: 0)
        return out
    }

    private func write(to out: inout String, _ style: Style, depth: Int) {
        switch self {
        case .null: out += "null"
        case .bool(let value): out += value ? "true" : "false"
        case .number(let text): out += text
        case .text(let text): out += Json.quoted(text, style.ascii)
        case .list(let items):
            Json.wrap("[", items, "]", &out, style, depth) { $1.write(to: &$0, style, depth: depth + 1) }
        case .object(let entries):
            Json.wrap("{", entries, "}", &out, style, depth) { out, entry in
                out += Json.quoted(entry.key, style.ascii) + style.afterKey
                entry.value.write(to: &out, style, depth: depth + 1)
            }
        }
    }

    private static func wrap<Part>(
        _ open: String, _ parts: [Part], _ close: String, _ out: inout String, _ style: Style, _ depth: Int,
        _ write: (inout String, Part) -> Void
    ) {
        func newLine(_ depth: Int) -> String {
            style.indent.map { "\n" + String(repeating: " ", count: $0 * depth) } ?? ""
        }
        out += open
        for (i, part) in parts.enumerated() {
            out += (i == 0 ? "" : style.betweenEntries) + newLine(depth + 1)
            write(&out, part)
        }
        out += (parts.isEmpty ? "" : newLine(depth)) + close
    }

    private static func quoted(_ text: String, _ ascii: Bool) -> String {
        var out = "\""
        for unit in text.unicodeScalars {
            switch unit {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            case "\u{8}": out += "\\b"
            case "\u{c}": out += "\\f"
            case _ where unit.value < 0x20 || (ascii && unit.value > 0x7e):
                for half in String(unit).utf16 { out += "\\u" + String(0x10000 + Int(half), radix: 16).suffix(4) }
            default: out.unicodeScalars.append(unit)
            }
        }
        return out + "\""
    }

    /// The shortest decimal that reads back exactly, as Python's `repr` spells it.
    static func pythonSpelling(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Infinity" : "Infinity" }
        // The same digits; only from 2^53 to 10^16 Swift writes an exponent and Python none.
        let text = value.description
        return abs(value) < 1e16 && text.contains("e+") ? String(Int(value)) + ".0" : text
    }
}
