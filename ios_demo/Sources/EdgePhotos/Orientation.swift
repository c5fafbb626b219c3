/// EXIF's orientation: how a stored picture is turned to be upright.
public enum Orientation: Int, Sendable {
    case upright = 1, mirrored, halfTurn, flipped, transposed, quarterTurn, transversed, threeQuarterTurn

    /// The first orientation of an EXIF block; upright where there is none or the block is damaged.
    ///
    /// - Parameter exif: from the byte order mark on, with or without "Exif\0\0" before it.
    public init(exif: some Collection<UInt8>) {
        var bytes = Array(exif)
        if bytes.starts(with: Array("Exif\0\0".utf8)) { bytes.removeFirst(6) }
        self = Self.stored(bytes).flatMap(Orientation.init) ?? .upright
    }

    private static let tag = 0x0112
    private static let widths = [1: 1, 3: 2, 4: 4]  // bytes of EXIF's integers, by type

    private static func stored(_ bytes: [UInt8]) -> Int? {
        let isLittle = bytes.starts(with: Array("II".utf8))
        guard bytes.count >= 8, isLittle || bytes.starts(with: Array("MM".utf8)) else { return nil }
        func number(_ at: Int, _ count: Int) -> Int {
            let digits = bytes[at..<at + count]
            return (isLittle ? Array(digits.reversed()) : Array(digits)).reduce(0) { $0 << 8 | Int($1) }
        }
        let first = number(4, 4)
        guard first + 2 <= bytes.count else { return nil }
        let entries = number(first, 2)
        for at in stride(from: first + 2, to: bytes.count - 11, by: 12).prefix(entries) where number(at, 2) == tag {
            guard let width = widths[number(at + 2, 2)], number(at + 4, 4) > 0 else { continue }
            let value = number(at + 8, width)
            if 1...8 ~= value { return value }
        }
        return nil
    }
}

extension Photo {
    /// The upright picture of stored pixels.
    public func turned(_ orientation: Orientation) -> Photo {
        let (w, h) = (width, height)
        return switch orientation {
        case .upright: self
        case .mirrored: rearranged(width: w, height: h) { x, y in (w - 1 - x, y) }
        case .halfTurn: rearranged(width: w, height: h) { x, y in (w - 1 - x, h - 1 - y) }
        case .flipped: rearranged(width: w, height: h) { x, y in (x, h - 1 - y) }
        case .transposed: rearranged(width: h, height: w) { x, y in (y, x) }
        case .quarterTurn: rearranged(width: h, height: w) { x, y in (y, h - 1 - x) }
        case .transversed: rearranged(width: h, height: w) { x, y in (w - 1 - y, h - 1 - x) }
        case .threeQuarterTurn: rearranged(width: h, height: w) { x, y in (w - 1 - y, x) }
        }
    }
}
