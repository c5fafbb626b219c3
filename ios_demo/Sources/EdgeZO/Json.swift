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
        var reader = JsonReader(bytes: Array(bytes))
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
        func newLine(_ depth: Int) -> String { style.indent.map { "\n" + String(repeating: " ", count: $0 * depth) } ?? "" }
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
        let text = value.description  // the same digits; only from 2^53 to 10^16 Swift writes an exponent and Python none
        return abs(value) < 1e16 && text.contains("e+") ? String(Int(value)) + ".0" : text
    }
}

/// A recursive descent over bytes.
private struct JsonReader {
    let bytes: [UInt8]
    var at = 0
    var depth = 0

    mutating func document() throws -> Json {
        guard String(validating: bytes, as: UTF8.self) != nil else { throw EdgeSdkError("it is not UTF-8") }
        let value = try value()
        skipSpace()
        guard at == bytes.count else { throw problem("more follows after the end") }
        return value
    }

    private mutating func value() throws -> Json {
        skipSpace()
        guard at < bytes.count else { throw problem("it is cut short") }
        switch bytes[at] {
        case UInt8(ascii: "{"): return try nested { try $0.object() }
        case UInt8(ascii: "["): return try nested { try $0.list() }
        case UInt8(ascii: "\""): return .text(try text())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "N"): return try word("NaN", .number("NaN"))
        case UInt8(ascii: "I"): return try word("Infinity", .number("Infinity"))
        default: return try number()
        }
    }

    private mutating func nested(_ read: (inout JsonReader) throws -> Json) throws -> Json {
        depth += 1
        guard depth <= Json.maxDepth else { throw problem("it is nested too deeply") }
        at += 1
        let value = try read(&self)
        depth -= 1
        return value
    }

    private mutating func object() throws -> Json {
        var entries: [(key: String, value: Json)] = []
        var keys = Set<String>()
        if try ends(with: "}") { return .object([]) }
        repeat {
            skipSpace()
            guard at < bytes.count, bytes[at] == UInt8(ascii: "\"") else { throw problem("a key is missing") }
            let key = try text()
            // Swift takes letters for equal that are composed differently; a key is its code points.
            guard keys.insert(key.unicodeScalars.map { String($0.value) }.joined(separator: " ")).inserted else {
                throw problem("the key \(key.prefix(60).debugDescription) is given twice")
            }
            skipSpace()
            guard take(":") else { throw problem("a colon is missing") }
            entries.append((key, try value()))
        } while try !ends(with: "}", after: ",")
        return .object(entries)
    }

    private mutating func list() throws -> Json {
        var items: [Json] = []
        if try ends(with: "]") { return .list([]) }
        repeat { items.append(try value()) } while try !ends(with: "]", after: ",")
        return .list(items)
    }

    private mutating func text() throws -> String {
        at += 1
        var out: [UInt8] = []
        while at < bytes.count, bytes[at] != UInt8(ascii: "\"") {
            guard bytes[at] >= 0x20 else { throw problem("a text holds a control character") }
            if bytes[at] == UInt8(ascii: "\\") {
                at += 1
                out += Array(String(try escaped()).utf8)
            } else {
                out.append(bytes[at])
                at += 1
            }
        }
        guard take("\"") else { throw problem("a text is cut short") }
        return String(decoding: out, as: UTF8.self)
    }

    private mutating func escaped() throws -> Unicode.Scalar {
        guard at < bytes.count else { throw problem("a text is cut short") }
        let letter = bytes[at]
        at += 1
        switch letter {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(letter)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            let first = try fourDigits()
            if let scalar = Unicode.Scalar(first) { return scalar }
            if first < 0xDC00, take("\\"), take("u") {
                let second = try fourDigits()
                if 0xDC00..<0xE000 ~= second { return Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))! }
            }
            throw problem("half a letter is missing after \\u")
        default: throw problem("an unknown letter follows a backslash")
        }
    }

    private mutating func fourDigits() throws -> UInt32 {
        let digits = bytes[at..<min(at + 4, bytes.count)]
        guard digits.count == 4, digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }) else {
            throw problem("four hexadecimal digits follow \\u")
        }
        at += 4
        return UInt32(String(decoding: digits, as: UTF8.self), radix: 16)!
    }

    private mutating func number() throws -> Json {
        let start = at
        _ = take("-")
        if take("I") {
            at -= 1
            return try word("Infinity", .number("-Infinity"))
        }
        func digits(_ reader: inout JsonReader) -> Int {
            let first = reader.at
            while reader.at < reader.bytes.count, 0x30...0x39 ~= reader.bytes[reader.at] { reader.at += 1 }
            return reader.at - first
        }
        let whole = at
        guard digits(&self) > 0 else { throw problem("a value is missing") }
        guard bytes[whole] != UInt8(ascii: "0") || at == whole + 1 else { throw problem("a number begins with 0") }
        if take("."), digits(&self) == 0 { throw problem("a number ends with its point") }
        if take("e") || take("E") {
            _ = take("+") || take("-")
            guard digits(&self) > 0 else { throw problem("an exponent is missing") }
        }
        return .number(String(decoding: bytes[start..<at], as: UTF8.self))
    }

    private mutating func word(_ name: String, _ value: Json) throws -> Json {
        guard bytes[at...].starts(with: name.utf8) else { throw problem("a value is missing") }
        at += name.utf8.count
        return value
    }

    private mutating func ends(with close: Unicode.Scalar, after comma: Unicode.Scalar? = nil) throws -> Bool {
        skipSpace()
        if take(close) { return true }
        guard let comma else { return false }
        guard take(comma) else { throw problem(at < bytes.count ? "a comma is missing" : "it is cut short") }
        return false
    }

    private mutating func take(_ letter: Unicode.Scalar) -> Bool {
        guard at < bytes.count, bytes[at] == UInt8(ascii: letter) else { return false }
        at += 1
        return true
    }

    private mutating func skipSpace() {
        while at < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[at]) { at += 1 }
    }

    private func problem(_ what: String) -> EdgeSdkError { EdgeSdkError("\(what), at byte \(at)") }
}
