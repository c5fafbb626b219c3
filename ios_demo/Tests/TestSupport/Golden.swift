import EdgeSystem
import EdgeZO
import Foundation

/// The golden files that all twins share; `tests/golden/README.md` describes them.
public enum Golden {
    /// `EDGE_GOLDEN`, or the folder of this checkout.
    public static let folder: URL = {
        if let path = ProcessInfo.processInfo.environment["EDGE_GOLDEN"] { return URL(fileURLWithPath: path) }
        let package = (0..<4).reduce(URL(fileURLWithPath: #filePath)) { path, _ in path.deletingLastPathComponent() }
        return package.appendingPathComponent("tests/golden")
    }()

    public static func bytes(_ name: String) throws -> [UInt8] {
        try Array(Data(contentsOf: folder.appendingPathComponent(name)))
    }

    public static func json(_ name: String) throws -> Json { try Json.parse(bytes(name)) }
}

/// Values that a golden file must have: a wrong file ends the test program.
extension Json {
    public func at(_ key: String) -> Json { self[key]! }
    public var array: [Json] { items! }
    public var integer: Int { int! }
    public var seed: UInt64 { uint64! }
    public var boolean: Bool { bool! }
    public var texts: [String] { array.map { $0.string! } }
    public var integers: [Int] { array.map(\.integer) }
    /// `null` is NaN.
    public var number: Double { isNull ? .nan : double! }

    /// All numbers of nested lists, the last index fastest.
    public var flat: [Double] { items.map { $0.flatMap(\.flat) } ?? [number] }
    public var floats: [Float] { flat.map { Float($0) } }
    /// The rows of a list of lists.
    public var rows: [[Float]] { array.map(\.floats) }
}

/// The largest |a - b|; infinite for unequal counts or where only one is NaN.
public func worst(_ a: [Double], _ b: [Double]) -> Double {
    guard a.count == b.count else { return .infinity }
    return zip(a, b).map { x, y in x == y || (x.isNaN && y.isNaN) ? 0 : (x - y).isNaN ? .infinity : abs(x - y) }.max()
        ?? 0
}

public func worst(_ a: [Float], _ b: [Float]) -> Double { worst(a.map(Double.init), b.map(Double.init)) }

/// The largest distance in float32 numbers; 0 is equal, 1 a neighbour.
public func ulps(_ a: [Float], _ b: [Float]) -> Int {
    guard a.count == b.count else { return .max }
    func place(_ x: Float) -> Int { x < 0 ? -Int(x.magnitude.bitPattern) : Int(x.bitPattern) }
    return zip(a, b).map { abs(place($0) - place($1)) }.max() ?? 0
}
