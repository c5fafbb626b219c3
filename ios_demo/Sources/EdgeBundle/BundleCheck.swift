import EdgeSystem
import EdgeZO
import Foundation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What is refused of a folder whose manifest is well formed.
struct BundleCheck {
    let folder: URL
    let manifest: Manifest

    private static let data = ["onnx", "bin", "f32", "mlmodel", "mlpackage"]  // suffixes of what a bundle is made of

    private var place: String { folder.appendingPathComponent(ModelBundle.manifestName).path }

    /// Every path is relative and below the folder, and whatever is opened by name is a listed file.
    func paths() throws {
        let files = Set(manifest.files.keys)
        let graphs = Set(manifest.graphs.values.map(\.file))
        let principal = manifest.principalDirections
        let data = Set(manifest.embedding.map(\.table.file) + [principal.file])
        let folders = Set(manifest.tokens.map(\.folder))
        for path in files.union(graphs).union(data).union(folders).sorted() where !Self.isSafe(path) {
            throw EdgeSdkError(
                "\(place) names the path '\(shown(path))'; paths are relative, below the folder, with / between "
                    + "names; \(Manifest.again)")
        }
        let ofFolders = Set(files.compactMap { $0.lastIndex(of: "/").map($0.prefix(upTo:)).map(String.init) })
        let packages = graphs.filter { package in files.contains { $0.hasPrefix("\(package)/") } }  // of Core ML
        let missing = graphs.subtracting(packages).union(data).subtracting(files).union(folders.subtracting(ofFolders))
        if let path = missing.min() {
            throw EdgeSdkError("\(place) uses \(shown(path)) but does not list it among its files; \(Manifest.again)")
        }
        for part in manifest.embedding {
            let end = part.table.offset + part.table.number.bytes * part.vocabSize * part.width
            if end > manifest.files[part.table.file]!.bytes {
                throw EdgeSdkError(
                    "\(place): a table goes beyond the end of \(shown(part.table.file)); \(Manifest.again)")
            }
        }
        let (held, due) = (manifest.files[principal.file]!.bytes, 4 * principal.count * principal.width)
        if held != due {
            throw EdgeSdkError(
                "\(place): \(shown(principal.file)) has \(held) bytes and \(principal.count) directions of "
                    + "\(principal.width) numbers take \(due); \(Manifest.again)")
        }
    }

    static func isSafe(_ path: String) -> Bool {
        let names = path.split(separator: "/", omittingEmptySubsequences: false)
        let isPlain = !path.unicodeScalars.contains { $0 == "\\" || $0 == ":" || $0.value == 0 }
        return isPlain && path != ModelBundle.manifestName && !names.contains { ["", ".", ".."].contains($0) }
    }

    /// Sizes of all files, then their hashes.
    func files() throws {
        let listed = manifest.files.sorted { $0.key < $1.key }
        for (name, entry) in listed {
            let size = try checkedSize(name)
            if size != entry.bytes {
                throw EdgeSdkError(
                    "\(path(name)) has \(size) bytes and manifest.json says \(entry.bytes); copy the bundle again")
            }
        }
        for (name, entry) in listed where try Files.sha256(folder.appendingPathComponent(name)) != entry.sha256 {
            throw EdgeSdkError(
                "\(path(name)) is not the file that manifest.json lists (its sha256 differs); copy the bundle again")
        }
    }

    private func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

    /// The bytes of the file that a listed name leads to.
    private func checkedSize(_ name: String) throws -> Int {
        let names = name.split(separator: "/")
        for depth in 1..<max(names.count, 1) {
            let parent = names.prefix(depth).joined(separator: "/")
            if Entry(path(parent), follow: false).kind == .link {
                throw EdgeSdkError("\(path(parent)) is a link to a folder; copy the bundle again as plain files")
            }
        }
        let entry = Entry(path(name), follow: true)
        if entry.kind == .missing {
            let what = Entry(path(name), follow: false).kind == .link ? "leads nowhere" : "is missing"
            throw EdgeSdkError("\(path(name)) \(what), which manifest.json lists; copy the bundle again")
        }
        guard entry.kind == .file else {
            throw EdgeSdkError("\(path(name)) is not a file; a bundle holds files and folders only, copy it again")
        }
        return entry.bytes
    }

    /// Paths of what the manifest does not list and nobody opens.
    ///
    /// - Throws: `EdgeSdkError`: it could be taken for a part of the bundle, or is neither file nor folder.
    func unlisted() throws -> [String] {
        let listed = Set(manifest.files.keys).union([ModelBundle.manifestName])
        let opened = Set(manifest.tokens.map(\.folder))
        var found: [String] = []
        var waiting = [""]  // folders below the bundle's, "" itself
        while let place = waiting.popLast() {
            let names: [String]
            do { names = try FileManager.default.contentsOfDirectory(atPath: path(place)) } catch {
                throw EdgeSdkError("\(path(place)) cannot be read; copy the bundle again, or change its permissions")
            }
            for name in names.sorted() {
                let relative = place.isEmpty ? name : "\(place)/\(name)"
                if listed.contains(relative) { continue }
                if Self.isLeftover(name) {
                    found.append(relative)
                    continue
                }
                let kind = Entry(path(relative), follow: false).kind
                if kind == .folder {
                    waiting.append(relative)
                    continue
                }
                let target = Entry(path(relative), follow: true).kind
                guard target == .file else {
                    let what = target == .folder ? "a link to a folder" : "not a file"
                    throw EdgeSdkError(
                        "\(path(relative)) is \(what); a bundle holds files and folders only, copy it again")
                }
                let isInside = relative.split(separator: "/").contains { $0.hasSuffix(".mlpackage") }
                let suffix = name.split(separator: ".", omittingEmptySubsequences: false).dropFirst().last.map(
                    String.init)
                if isInside || opened.contains(place) || Self.data.contains(suffix ?? "") {
                    throw EdgeSdkError(
                        "\(path(relative)) is not listed in manifest.json; remove it, or \(Manifest.again)")
                }
                found.append(relative)
            }
        }
        return found
    }

    /// What Explorer, unpackers and indexers add to a folder; what others add, Finder and git first, begins with a dot.
    private static let leftovers = [
        "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "__pycache__", "@eadir", "lost+found",
    ]

    static func isLeftover(_ name: String) -> Bool { name.hasPrefix(".") || leftovers.contains(name.lowercased()) }
}

/// What a path leads to.
private struct Entry {
    enum Kind { case missing, file, folder, link, other }
    let kind: Kind
    let bytes: Int

    init(_ path: String, follow: Bool) {
        var info = stat()
        guard (follow ? stat(path, &info) : lstat(path, &info)) == 0 else {
            (kind, bytes) = (.missing, 0)
            return
        }
        bytes = Int(info.st_size)
        switch info.st_mode & S_IFMT {
        case S_IFREG: kind = .file
        case S_IFDIR: kind = .folder
        case S_IFLNK: kind = .link
        default: kind = .other
        }
    }
}
