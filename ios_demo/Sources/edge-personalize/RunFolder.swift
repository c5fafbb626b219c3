import EdgeRuntime
import EdgeZO
import Foundation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A run on disk: lock, checkpoints, the learned file, `run.json`. Only its owner can read it, and every file is there
/// whole or not at all.
final class RunFolder: Sendable {
    private let folder: URL
    private let lock: Int32

    private static let kept = 2  // checkpoints
    private static let stateFile = "state.safetensors"
    private static let results = ["run.json", "learned_embeds.safetensors"]
    private static let mostBytes = 1 << 30  // of a state

    /// Make the folder where there is none, and lock it: at most one process is at work in it.
    ///
    /// - Throws: `EdgeSdkError`: it cannot be written, or another run is at work there.
    init(_ folder: URL) throws {
        self.folder = folder
        do {
            try FileManager.default.createDirectory(
                at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch { throw EdgeSdkError("output_dir \(folder.path) cannot be made; choose another place") }
        lock = open(folder.appendingPathComponent(".lock").path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard lock >= 0 else {
            throw EdgeSdkError("output_dir \(folder.path) cannot be written (\(reason())); choose another place")
        }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            close(lock)
            throw EdgeSdkError("another run is at work in \(folder.path); wait for it or use another --output_dir")
        }
        for name in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? [] where name.hasPrefix(Self.staged) {
            try? FileManager.default.removeItem(at: folder.appendingPathComponent(name))  // of a run that was killed
        }
    }

    func unlock() { close(lock) }

    /// Steps and folders of the checkpoints, the newest first; a folder without a state is none.
    var checkpoints: [(step: Int, folder: URL)] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        let found = names.compactMap { name -> (step: Int, folder: URL)? in
            guard name.hasPrefix("checkpoint-"), name.allSatisfy(\.isASCII), let step = Int(name.dropFirst(11)) else { return nil }
            return (step, folder.appendingPathComponent(name))
        }
        let whole = found.filter { FileManager.default.fileExists(atPath: $0.folder.appendingPathComponent(Self.stateFile).path) }
        return whole.sorted { $0.step > $1.step }
    }

    /// The bytes to go on from, and their step; nil for a new run.
    ///
    /// - Parameter given: "latest", the path of a checkpoint's folder, or nil.
    /// - Throws: `EdgeSdkError`: the folder holds another run, or nothing to go on from.
    func resume(_ given: String?, _ notify: (String) -> Void) throws -> (bytes: [UInt8], step: Int)? {
        let taken = Self.results.filter { FileManager.default.fileExists(atPath: folder.appendingPathComponent($0).path) }
        guard let given else {
            if let name = taken.first ?? checkpoints.first?.folder.lastPathComponent {
                throw EdgeSdkError(
                    "\(folder.path) already holds \(name); use another --output_dir, or --resume_from_checkpoint latest")
            }
            return nil
        }
        guard given == "latest" else {
            let place = URL(fileURLWithPath: NSString(string: given).expandingTildeInPath)
            return try read(place.appendingPathComponent(Self.stateFile))
        }
        var problems: [String] = []
        for (_, place) in checkpoints {
            do {
                let found = try read(place.appendingPathComponent(Self.stateFile))
                problems.forEach { notify("\($0); going on from \(place.lastPathComponent)") }
                return found
            } catch { problems.append("\(error)") }
        }
        if let first = problems.first { throw EdgeSdkError("\(first); start a new run in another --output_dir") }
        guard taken.isEmpty else {
            throw EdgeSdkError("\(folder.path) holds no checkpoint-<step> folder to resume from; start a run without resuming")
        }
        notify("the run in \(folder.path) has no checkpoint yet; it starts from the beginning")
        return nil
    }

    private func read(_ file: URL) throws -> (bytes: [UInt8], step: Int) {
        guard let size = try? file.resourceValues(forKeys: [.fileSizeKey, .isRegularFileKey]), size.isRegularFile == true,
            size.fileSize ?? 0 <= Self.mostBytes, let data = try? Data(contentsOf: file)
        else { throw EdgeSdkError("\(file.path) cannot be read; give the folder of a checkpoint") }
        let bytes = [UInt8](data)
        return (bytes, try Checkpoint.state(of: bytes, path: file.path).step)
    }

    /// Write `checkpoint-<step>/state.safetensors` and remove all but the two newest.
    func save(checkpoint bytes: [UInt8]) throws {
        let step = try Checkpoint.state(of: bytes, path: "the state").step
        let target = folder.appendingPathComponent("checkpoint-\(step)")
        let staging = folder.appendingPathComponent("\(Self.staged)\(step)")
        try refused(target) {
            try? FileManager.default.removeItem(at: staging)
            try FileManager.default.createDirectory(
                at: staging, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
            try Self.write(bytes, staging.appendingPathComponent(Self.stateFile))
            try Self.sync(staging)
            if FileManager.default.fileExists(atPath: target.path) {  // of the same step, or damaged
                try Self.rename(staging.appendingPathComponent(Self.stateFile), target.appendingPathComponent(Self.stateFile))
                try FileManager.default.removeItem(at: staging)
            } else {
                try Self.rename(staging, target)
            }
            try Self.sync(folder)
        }
        for (_, old) in checkpoints.dropFirst(Self.kept) { try? FileManager.default.removeItem(at: old) }
    }

    /// Write `learned_embeds.safetensors`; returns its place.
    func save(embedding: LearnedEmbedding) throws -> URL { try save("learned_embeds.safetensors", embedding.toBytes()) }

    /// Write `run.json`.
    func save(record: Json) throws { _ = try save("run.json", Array((record.written(.indented) + "\n").utf8)) }

    private func save(_ name: String, _ bytes: [UInt8]) throws -> URL {
        let target = folder.appendingPathComponent(name)
        try refused(target) { try WholeFile.write(bytes, to: target, staged: folder.appendingPathComponent("\(Self.staged)\(name)")) }
        return target
    }

    private static let staged = ".staging-"

    private static func write(_ bytes: [UInt8], _ file: URL) throws { try WholeFile.flushed(bytes, file) }
    private static func sync(_ folder: URL) throws { try WholeFile.sync(folder) }
    private static func rename(_ from: URL, _ to: URL) throws { try WholeFile.rename(from, to) }
}

/// Files that are there whole or not at all.
enum WholeFile {
    struct Failure: Error { let code: Int32 }

    /// Write a file under a temporary name of the same folder, flush it, and rename it.
    static func write(_ bytes: [UInt8], to target: URL, staged: URL) throws {
        try flushed(bytes, staged)
        try rename(staged, target)
        try sync(target.deletingLastPathComponent())
    }

    /// A new file for its owner alone, on the disk when this returns.
    static func flushed(_ bytes: [UInt8], _ file: URL) throws {
        let handle = open(file.path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard handle >= 0 else { throw Failure(code: errno) }
        defer { close(handle) }
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Foundation.write(handle, $0.baseAddress, $0.count) }
            guard count > 0 else { throw Failure(code: errno) }
            rest = rest.dropFirst(count)
        }
        guard fsync(handle) == 0 else { throw Failure(code: errno) }
    }

    static func rename(_ from: URL, _ to: URL) throws {
        guard Foundation.rename(from.path, to.path) == 0 else { throw Failure(code: errno) }
    }

    /// Flush a folder's entries.
    static func sync(_ folder: URL) throws {
        let handle = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard handle >= 0 else { throw Failure(code: errno) }
        defer { close(handle) }
        guard fsync(handle) == 0 else { throw Failure(code: errno) }
    }
}

private func reason(_ code: Int32 = errno) -> String { String(cString: strerror(code)) }

/// Turn a failing disk into a message about `what`; everything written before stays as it was.
func refused<Value>(_ what: URL, _ body: () throws -> Value) throws -> Value {
    do { return try body() } catch let failure as WholeFile.Failure {
        if [ENOSPC, EDQUOT].contains(failure.code) {
            throw EdgeSdkError("\(what.path) cannot be written: the disk is full; free some space and resume")
        }
        throw EdgeSdkError("\(what.path) cannot be written: \(reason(failure.code)); choose another place")
    } catch let error as EdgeSdkError { throw error } catch {
        throw EdgeSdkError("\(what.path) cannot be written (\(error.localizedDescription)); choose another place")
    }
}
