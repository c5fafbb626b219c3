/// The file format safetensors: 8 bytes of length, a header of JSON, the numbers of all tensors one after the other.
public struct Safetensors: Equatable, Sendable {
    public enum Number: String, Sendable {
        case f32 = "F32", f64 = "F64", i64 = "I64", f16 = "F16", bf16 = "BF16"

        public var bytes: Int {
            switch self {
            case .f32: 4
            case .f64, .i64: 8
            case .f16, .bf16: 2
            }
        }
    }

    public struct Tensor: Equatable, Sendable {
        public let number: Number
        public let shape: [Int]
        /// Little-endian, in C order.
        public let bytes: [UInt8]

        public init(number: Number, shape: [Int], bytes: [UInt8]) {
            (self.number, self.shape, self.bytes) = (number, shape, bytes)
        }
    }

    /// In the order of the header.
    public var metadata: [(key: String, value: String)]
    public var tensors: [(name: String, tensor: Tensor)]

    public init(metadata: [(key: String, value: String)], tensors: [(name: String, tensor: Tensor)]) {
        (self.metadata, self.tensors) = (metadata, tensors)
    }

    public static let maxBytes = 64 << 20  // of a file
    static let maxHeader = 1 << 20

    public subscript(name: String) -> Tensor? { tensors.first { $0.name == name }?.tensor }

    public func text(_ key: String) -> String? { metadata.first { $0.key == key }?.value }

    /// The file as Python's `json.dumps` writes its header, in the order of this record.
    public func bytes() -> [UInt8] { bytes(header: header, .python) }

    /// The file with tensors, metadata and the header's entries sorted by name, as edge-sdk writes what it shares.
    public func sortedBytes() -> [UInt8] {
        func precedes(_ a: String, _ b: String) -> Bool { a.utf8.lexicographicallyPrecedes(b.utf8) }
        let sorted = Safetensors(
            metadata: metadata.sorted { precedes($0.key, $1.key) },
            tensors: tensors.sorted { precedes($0.name, $1.name) })
        return sorted.bytes(header: sorted.header.sorted { precedes($0.key, $1.key) }, .compact)
    }

    private var header: [(key: String, value: Json)] {
        var end = 0
        let entries = tensors.map { name, tensor in
            let start = end
            end += tensor.bytes.count
            let shape = Json.list(tensor.shape.map { .number($0) }),
                offsets = Json.list([.number(start), .number(end)])
            let entry: [(key: String, value: Json)] = [
                ("dtype", .text(tensor.number.rawValue)), ("shape", shape), ("data_offsets", offsets),
            ]
            return (key: name, value: Json.object(entry))
        }
        return [("__metadata__", .object(metadata.map { ($0.key, .text($0.value)) }))] + entries
    }

    private func bytes(header: [(key: String, value: Json)], _ style: Json.Style) -> [UInt8] {
        var text = Array(Json.object(header).written(style).utf8)
        text += [UInt8](repeating: UInt8(ascii: " "), count: (8 - text.count % 8) % 8)
        return littleEndian(UInt64(text.count)) + text + tensors.flatMap(\.tensor.bytes)
    }

    /// Reads a file and checks it.
    /// - Throws: `EdgeSdkError`, without the name of the file: cut short, edited, or no such file.
    public init(_ file: [UInt8]) throws {
        guard file.count >= 8, file.count <= Self.maxBytes else {
            throw EdgeSdkError("it has \(file.count) bytes; a file has 8 or more, and \(Self.maxBytes) at most")
        }
        let length = file[..<8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= min(Self.maxHeader, file.count - 8) else {
            throw EdgeSdkError("the header is cut short or too long")
        }
        let body = file[(8 + Int(length))...]
        guard let entries = try Json.parse(file[8..<(8 + Int(length))]).entries else {
            throw EdgeSdkError("the header is no object")
        }
        metadata = []
        tensors = []
        var parts: [(start: Int, end: Int)] = []
        for (name, entry) in entries {
            if name == "__metadata__" {
                metadata = try (entry.entries ?? []).map { key, value in
                    guard let text = value.string else {
                        throw EdgeSdkError("\(key.prefix(60)) of the metadata is no text")
                    }
                    return (key, text)
                }
                continue
            }
            guard let number = entry["dtype"]?.string.flatMap(Number.init) else {
                throw EdgeSdkError("\(name.prefix(60)) has an unknown dtype")
            }
            let sizes = (entry["shape"]?.items ?? []) + (entry["data_offsets"]?.items ?? [])
            let known = sizes.compactMap(\.int).filter { 0...Self.maxBytes ~= $0 }
            guard known.count == sizes.count, entry["data_offsets"]?.items?.count == 2, 2...6 ~= sizes.count else {
                throw EdgeSdkError("\(name.prefix(60)) has other sizes")
            }
            let shape = Array(known.dropLast(2)), start = known[known.count - 2], end = known[known.count - 1]
            let (bytes, tooMany) = shape.reduce((number.bytes, false)) { size, n in
                let (product, overflow) = size.0.multipliedReportingOverflow(by: n)
                return (product, size.1 || overflow)
            }
            guard !tooMany, end - start == bytes, end <= body.count else {
                throw EdgeSdkError("it is cut short or edited")
            }
            let data = body[(body.startIndex + start)..<(body.startIndex + end)]
            tensors.append((name, Tensor(number: number, shape: shape, bytes: Array(data))))
            parts.append((start, end))
        }
        var end = 0
        for part in parts.sorted(by: { ($0.start, $0.end) < ($1.start, $1.end) }) {
            guard part.start == end else { throw EdgeSdkError("it is cut short or edited") }
            end = part.end
        }
        guard end == body.count else { throw EdgeSdkError("it is cut short or edited") }
    }

    public static func == (a: Safetensors, b: Safetensors) -> Bool {
        a.metadata.elementsEqual(b.metadata) { $0 == $1 } && a.tensors.elementsEqual(b.tensors) { $0 == $1 }
    }
}

extension Safetensors.Tensor {
    public init(_ values: [Float], shape: [Int]) {
        self.init(number: .f32, shape: shape, bytes: values.flatMap { littleEndian($0.bitPattern) })
    }

    public init(_ values: [Double], shape: [Int]) {
        self.init(number: .f64, shape: shape, bytes: values.flatMap { littleEndian($0.bitPattern) })
    }

    public init(_ values: [Int], shape: [Int]) {
        self.init(number: .i64, shape: shape, bytes: values.flatMap { littleEndian(Int64($0)) })
    }

    /// The numbers; nil for integers.
    public var floats: [Float]? {
        switch number {
        case .f32: parts(UInt32.self).map { Float(bitPattern: $0) }
        case .f64: parts(UInt64.self).map { Float(Double(bitPattern: $0)) }
        case .f16: parts(UInt16.self).map { half($0) }
        case .bf16: parts(UInt16.self).map { Float(bitPattern: UInt32($0) << 16) }
        case .i64: nil
        }
    }

    /// The numbers of a tensor of float64; nil for any other.
    public var doubles: [Double]? { number == .f64 ? parts(UInt64.self).map { Double(bitPattern: $0) } : nil }
    /// The numbers of a tensor of int64; nil for any other.
    public var integers: [Int]? { number == .i64 ? parts(Int64.self).map { Int($0) } : nil }

    private func parts<Word: FixedWidthInteger>(_ word: Word.Type) -> [Word] {
        bytes.withUnsafeBytes { raw in
            stride(from: 0, to: raw.count, by: MemoryLayout<Word>.size).map {
                Word(littleEndian: raw.loadUnaligned(fromByteOffset: $0, as: Word.self))
            }
        }
    }
}

/// A half-precision number of its bits. `Float16` does not exist on Macs with Intel's processors.
public func half(_ bits: UInt16) -> Float {
    let exponent = Int(bits >> 10 & 0x1F), fraction = Float(bits & 0x3FF)
    let sign: Float = bits >> 15 == 0 ? 1 : -1
    switch exponent {
    case 0: return sign * fraction * 0x1p-24
    case 31: return fraction == 0 ? sign * .infinity : .nan
    default: return sign * (fraction + 1024) * Float(sign: .plus, exponent: exponent - 25, significand: 1)
    }
}

private func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
}
