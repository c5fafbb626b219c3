import EdgeSystem
import EdgeZO
import Foundation

/// What the first screen tells about a bundle.
public struct BundleInfo: Equatable, Sendable, Identifiable {
    /// Of its folder.
    public let name: String
    public let model: String
    public let weights: String
    public let format: String
    /// Of all its files, in 10^6 bytes.
    public let megabytes: Double
    public let resolution: Int
    /// Words to start from.
    public let initializers: [String]
    /// The one to start from if the person names none.
    public let initializer: String?
    /// SHA-256 of its manifest: another digest is another model.
    public let digest: String

    public var id: String { name }
}

/// The bundles in the app's own folder.
///
/// A bundle is copied under a name that no list shows, checked as a whole, and only then renamed. A copy that was cut short by
/// the person, by a full phone or by the end of the process leaves nothing that could be taken for a bundle.
public struct Shelf: Sendable {
    private static let manifest = "manifest.json"
    private static let mostManifest = 16 << 20  // bytes
    private static let schemaVersion = 3
    private static let reserve: Int64 = 50_000_000  // bytes left for the phone, and for what a run writes

    let folder: URL
    let engine: any Engine
    let free: @Sendable () -> Int64

    /// - Parameter folder: holds one folder for each bundle.
    /// - Parameter free: bytes that the app may still write; nil asks the file system.
    public init(_ folder: URL, engine: any Engine, free: (@Sendable () -> Int64)? = nil) {
        (self.folder, self.engine) = (folder, engine)
        self.free = free ?? { Self.free(of: folder) }
        try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        WholeFile.removeStaged(in: folder)
    }

    /// The bundles, by name; folders without a readable manifest are left out.
    func list() -> [BundleInfo] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.filter { !$0.hasPrefix(".") }.sorted().compactMap { try? describe(folder(of: $0)) }
    }

    func folder(of name: String) -> URL { folder.appendingPathComponent(name) }

    func remove(_ name: String) {
        let going = folder(of: WholeFile.staged + name)  // disappears at once, though deleting takes its time
        guard rename(folder(of: name).path, going.path) == 0 else { return }
        try? FileManager.default.removeItem(at: going)
    }

    /// Copies a bundle in.
    /// - Parameter progress: gets the bytes copied so far; false ends it with nil and leaves nothing.
    /// - Throws: `Problem`: the sentence to show.
    func take(_ source: URL, progress: (Int) -> Bool) async throws -> BundleInfo? {
        let name = source.lastPathComponent
        let scratch = folder(of: WholeFile.staged + UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: scratch) }
        guard let root = root(of: source) else {
            let isThere = (try? FileManager.default.contentsOfDirectory(atPath: source.path)) != nil
            throw Problem(said: Message(isThere ? .bundleWithoutManifest : .sourceUnreadable, name))
        }
        guard try copy(root, to: scratch, progress) else { return nil }
        try await examine(scratch, name)
        let target = unusedName(name)
        guard rename(scratch.path, target.path) == 0 else { throw Problem(said: Message(.savingFailed)) }
        return try describe(target)
    }

    /// Checks every file of a bundle, as before each run.
    /// - Throws: `Problem`: the sentence to show.
    @discardableResult
    func examine(_ bundle: URL, _ name: String) async throws -> any OpenedBundle {
        guard let (manifest, _) = try? read(bundle), let format = manifest["format"]?.string else {
            throw Problem(said: Message(.bundleRefused, name))
        }
        guard manifest["schema_version"]?.int == Self.schemaVersion else {
            throw Problem(said: Message(.bundleOtherVersion, name))
        }
        guard engine.formats.contains(format) else { throw Problem(said: Message(.bundleOtherRuntime, name)) }
        if let file = cut(bundle, manifest) { throw Problem(said: Message(.bundleCut, name, file)) }
        do { return try await engine.open(bundle) } catch let error as EdgeSdkError {
            throw Problem(said: Message(.bundleRefused, name, detail: error.message))
        }
    }

    /// The folder of the manifest: the source itself, or one in it.
    private func root(of source: URL) -> URL? {
        let below = (try? FileManager.default.contentsOfDirectory(at: source, includingPropertiesForKeys: nil)) ?? []
        return ([source] + below.sorted { $0.path < $1.path }).first {
            FileManager.default.fileExists(atPath: $0.appendingPathComponent(Self.manifest).path)
        }
    }

    private func copy(_ source: URL, to target: URL, _ progress: (Int) -> Bool) throws -> Bool {
        var copied = 0
        guard let paths = FileManager.default.enumerator(atPath: source.path) else {
            throw Problem(said: Message(.sourceUnreadable, source.lastPathComponent))
        }
        for case let path as String in paths {
            let from = source.appendingPathComponent(path), into = target.appendingPathComponent(path)
            if path.split(separator: "/").contains(where: { $0.hasPrefix(".") }) { continue }  // what a desktop leaves
            let values = try? from.resourceValues(forKeys: [.isDirectoryKey, .fileSizeKey])
            if values?.isDirectory == true { continue }
            let size = values?.fileSize ?? 0
            guard progress(copied) else { return false }
            guard free() >= Self.reserve + Int64(size) else { throw noSpace() }
            do {
                try FileManager.default.createDirectory(
                    at: into.deletingLastPathComponent(), withIntermediateDirectories: true)
                try FileManager.default.copyItem(at: from, to: into)
            } catch {
                if free() < Self.reserve { throw noSpace() }
                throw Problem(
                    said: Message(.sourceUnreadable, source.lastPathComponent, detail: error.localizedDescription))
            }
            copied += size
        }
        return progress(copied)
    }

    private func noSpace() -> Problem {
        Problem(said: Message(.noSpace, "\(max(0, free() - Self.reserve) / 1_000_000)"))
    }

    /// The first file of the manifest that is missing or of another size.
    private func cut(_ bundle: URL, _ manifest: Json) -> String? {
        manifest["files"]?.entries?.first { path, entry in
            let values = try? bundle.appendingPathComponent(path).resourceValues(forKeys: [.fileSizeKey])
            return values?.fileSize == nil || (entry["bytes"]?.int ?? 0) > values?.fileSize ?? 0
        }?.key
    }

    private func unusedName(_ name: String) -> URL {
        var target = folder(of: name), count = 1
        while FileManager.default.fileExists(atPath: target.path) {
            count += 1
            target = folder(of: "\(name) \(count)")
        }
        return target
    }

    private func describe(_ bundle: URL) throws -> BundleInfo {
        let (manifest, bytes) = try read(bundle)
        let words = manifest["initializers"]?.entries?.map(\.key) ?? []
        return BundleInfo(
            name: bundle.lastPathComponent,
            model: manifest["model"]?["name"]?.string ?? "",
            weights: manifest["weights"]?.string ?? "",
            format: manifest["format"]?.string ?? "",
            megabytes: Double(manifest["files"]?.entries?.reduce(0) { $0 + ($1.value["bytes"]?.int ?? 0) } ?? 0) / 1e6,
            resolution: manifest["resolution"]?.int ?? 0,
            initializers: words.sorted(),
            initializer: manifest["initializer_token"]?.string,
            digest: Sha256.hex(bytes))
    }

    private func read(_ bundle: URL) throws -> (Json, [UInt8]) {
        let file = bundle.appendingPathComponent(Self.manifest)
        let size = try file.resourceValues(forKeys: [.fileSizeKey]).fileSize ?? 0
        guard size <= Self.mostManifest else { throw EdgeSdkError("\(file.path) is no manifest: it has \(size) bytes") }
        let bytes = Array(try Data(contentsOf: file))
        return (try Json.parse(bytes), bytes)
    }

    private static func free(of folder: URL) -> Int64 {
        let values = try? FileManager.default.attributesOfFileSystem(forPath: folder.path)
        return (values?[.systemFreeSize] as? NSNumber)?.int64Value ?? .max
    }
}
