import EdgeSystem
import EdgeZO
import Foundation

/// A checked bundle (`Bundle` is Foundation's): everything that must be refused is refused before any runtime opens a file.
public struct ModelBundle: Sendable {
    public let folder: URL
    public let manifest: Manifest
    /// SHA-256 of the manifest, and so of every file.
    public let sha256: String
    /// What lies in the folder and is no part of the bundle, such as `.DS_Store`; paths below the folder, sorted.
    public let leftovers: [String]

    static let manifestName = "manifest.json"
    private static let mostManifest = 16 << 20  // bytes

    /// Read the manifest and check every file: present, listed, of its size and its hash.
    ///
    /// A file may be a link, as the hub's client makes them. Leftovers of desktops and of git are left alone.
    ///
    /// - Throws: `EdgeSdkError`, one line that names the entry or the file.
    public init(_ folder: URL) throws {
        let file = folder.appendingPathComponent(Self.manifestName)
        let bytes: [UInt8]
        do { bytes = try Files.read(file, most: Self.mostManifest) } catch {
            throw EdgeSdkError("\(error); give the folder that edge-sdk export has written")
        }
        manifest = try Manifest(bytes, place: file.path)
        self.folder = folder
        sha256 = Sha256.hex(bytes)
        let check = BundleCheck(folder: folder, manifest: manifest)
        try check.paths()
        try check.files()
        leftovers = try check.unlisted().sorted()
    }

    /// Least and largest norms of the parts of the optimizer's variable.
    public var normRange: (low: [Double], high: [Double]) {
        (manifest.embedding.map(\.normRange.low), manifest.embedding.map(\.normRange.high))
    }

    /// Widths of the parts of a vector, one a text encoder.
    public var widths: [Int] { manifest.embedding.map(\.width) }

    /// What each coordinate of the optimizer's variable is multiplied with: D numbers.
    public var scale: [Float] { manifest.embedding.flatMap { Array(repeating: Float($0.scale), count: $0.width) } }

    public var isXL: Bool { manifest.model.family == .stableDiffusionXL }
    public var isPocket: Bool { manifest.model.family == .pocket }

    /// The file of a graph.
    ///
    /// - Throws: `EdgeSdkError`: the bundle has none of this name.
    public func graph(_ name: String) throws -> (file: URL, described: Manifest.Graph) {
        guard let graph = manifest.graphs[name] else {
            let names = manifest.graphs.keys.sorted().joined(separator: ", ")
            throw EdgeSdkError("\(folder.path) has no graph \(shown(name)); it has \(names); \(Manifest.again)")
        }
        return (folder.appendingPathComponent(graph.file), graph)
    }

    /// SHA-256 that identifies the weight files.
    public var weightsHash: String {
        let hashes = manifest.files.values.filter { $0.role == "weights" }.map(\.sha256).sorted()
        return Sha256.hex(hashes.joined().utf8)
    }

    /// A row of an encoder's embedding table, D numbers; the table itself stays in its file.
    ///
    /// - Throws: `EdgeSdkError`: the file cannot be read any more.
    public func vector(encoder: Int, word: Int) throws -> [Float] {
        let part = manifest.embedding[encoder]
        let row = part.width * part.table.number.bytes
        let bytes = try Files.read(
            folder.appendingPathComponent(part.table.file), from: part.table.offset + word * row, count: row)
        return bytes.withUnsafeBytes { raw in
            (0..<part.width).map { i in
                switch part.table.number {
                case .float32:
                    Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * i, as: UInt32.self)))
                case .float16: half(UInt16(littleEndian: raw.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)))
                }
            }
        }
    }

    /// The directions that a run searches, in the optimizer's variable: rows of D numbers.
    ///
    /// - Parameter count: of the rows; all where there are fewer.
    /// - Throws: `EdgeSdkError`: the file cannot be read any more.
    public func principalDirections(_ count: Int) throws -> [[Float]] {
        let entry = manifest.principalDirections
        let row = 4 * entry.width
        let file = folder.appendingPathComponent(entry.file)
        return try (0..<min(count, entry.count)).map { i in
            try Files.read(file, from: i * row, count: row).withUnsafeBytes { raw in
                (0..<entry.width).map {
                    Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
                }
            }
        }
    }

    /// Of the vocabulary's variance, the share along the first directions; nil in older bundles.
    ///
    /// - Throws: `EdgeSdkError`: the file cannot be read any more.
    public func varianceShare(_ count: Int) throws -> Double? {
        guard let all = manifest.varianceShare else { return nil }
        let squares = try principalDirections(manifest.principalDirections.count).map { row in
            row.reduce(0) { $0 + Double($1) * Double($1) }
        }
        return all * squares.prefix(count).reduce(0, +) / squares.reduce(0, +)
    }
}
