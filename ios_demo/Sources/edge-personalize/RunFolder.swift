import EdgeRuntime
import EdgeSystem
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
    /// - Parameter given: "latest", the path of a checkpoint's folder, or nil for a new run.
    /// - Throws: `EdgeSdkError`: it cannot be written, another run is at work there, or no run was to go on from.
    init(_ folder: URL, resuming given: String?) throws {
        self.folder = folder
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        if given == "latest", !names.contains(where: { $0 == ".lock" || $0.hasPrefix("checkpoint-") }) {
            throw EdgeSdkError(
                "\(folder.path) holds no checkpoint-<step> folder to resume from; start a run without resuming")
        }
        do {
            try FileManager.default.createDirectory(
                at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch { throw EdgeSdkError("output_dir \(folder.path) cannot be made; choose another place") }
        lock = open(folder.appendingPathComponent(".lock").path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard lock >= 0 else {
            throw EdgeSdkError(
                "output_dir \(folder.path) cannot be written (\(String(cString: strerror(errno)))); choose another "
                    + "place")
        }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            close(lock)
            throw EdgeSdkError("another run is at work in \(folder.path); wait for it or use another --output_dir")
        }
        WholeFile.removeStaged(in: folder)
    }

    func unlock() { close(lock) }

    /// Steps and folders of the checkpoints, the newest first; a folder without a state is none.
    var checkpoints: [(step: Int, folder: URL)] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        let found = names.compactMap { name -> (step: Int, folder: URL)? in
            guard name.hasPrefix("checkpoint-"), name.allSatisfy(\.isASCII), let step = Int(name.dropFirst(11)) else {
                return nil
            }
            return (step, folder.appendingPathComponent(name))
        }
        let whole = found.filter {
            FileManager.default.fileExists(atPath: $0.folder.appendingPathComponent(Self.stateFile).path)
        }
        return whole.sorted { $0.step > $1.step }
    }

    /// The bytes to go on from, and their step; nil for a new run.
    ///
    /// - Parameter given: "latest", the path of a checkpoint's folder, or nil.
    /// - Throws: `EdgeSdkError`: the folder holds another run, or nothing to go on from.
    func resume(_ given: String?, _ notify: (String) -> Void) throws -> (bytes: [UInt8], step: Int)? {
        let taken = Self.results.filter {
            FileManager.default.fileExists(atPath: folder.appendingPathComponent($0).path)
        }
        guard let given else {
            if let name = taken.first ?? checkpoints.first?.folder.lastPathComponent {
                throw EdgeSdkError(
                    "\(folder.path) already holds \(name); use another --output_dir, or --resume_from_checkpoint "
                        + "latest")
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
            throw EdgeSdkError(
                "\(folder.path) holds no checkpoint-<step> folder to resume from; start a run without resuming")
        }
        notify("the run in \(folder.path) has no checkpoint yet; it starts from the beginning")
        return nil
    }

    private func read(_ file: URL) throws -> (bytes: [UInt8], step: Int) {
        guard let size = try? file.resourceValues(forKeys: [.fileSizeKey, .isRegularFileKey]),
            size.isRegularFile == true,
            size.fileSize ?? 0 <= Self.mostBytes, let data = try? Data(contentsOf: file)
        else { throw EdgeSdkError("\(file.path) cannot be read; give the folder of a checkpoint") }
        let bytes = [UInt8](data)
        return (bytes, try Checkpoint.state(of: bytes, path: file.path).step)
    }

    /// Write `checkpoint-<step>/state.safetensors` and remove all but the two newest.
    func save(checkpoint bytes: [UInt8]) throws {
        let step = try Checkpoint.state(of: bytes, path: "the state").step
        let target = folder.appendingPathComponent("checkpoint-\(step)")
        let staging = folder.appendingPathComponent("\(WholeFile.staged)checkpoint-\(step)")
        try WholeFile.refused(target) {
            try? FileManager.default.removeItem(at: staging)
            try FileManager.default.createDirectory(
                at: staging, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
            try WholeFile.flushed(bytes, staging.appendingPathComponent(Self.stateFile))
            try WholeFile.sync(staging)
            if FileManager.default.fileExists(atPath: target.path) {  // of the same step, or damaged
                try WholeFile.rename(
                    staging.appendingPathComponent(Self.stateFile), target.appendingPathComponent(Self.stateFile))
                try FileManager.default.removeItem(at: staging)
            } else {
                try WholeFile.rename(staging, target)
            }
            try WholeFile.sync(folder)
        }
        for (_, old) in checkpoints.dropFirst(Self.kept) { try? FileManager.default.removeItem(at: old) }
    }

    /// Write `learned_embeds.safetensors`; returns its place.
    func save(embedding: LearnedEmbedding) throws -> URL { try save("learned_embeds.safetensors", embedding.toBytes()) }

    /// Write `run.json`.
    func save(record: Json) throws { _ = try save("run.json", Array((record.written(.indented) + "\n").utf8)) }

    private func save(_ name: String, _ bytes: [UInt8]) throws -> URL {
        let target = folder.appendingPathComponent(name)
        try WholeFile.write(bytes, to: target)
        return target
    }
}
