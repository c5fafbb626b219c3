/// A recursive descent over bytes.
struct JsonReader {
    let bytes: [UInt8]
    private var at = 0
    private var depth = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

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
                if 0xDC00..<0xE000 ~= second {
                    return Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))!
                }
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
