import Foundation

/// A file could not be written; one of its name is as it was.
struct WritingError: Error, CustomStringConvertible {
    let description: String
}

/// Files that are written whole or not at all, even if the process is killed or the power fails meanwhile.
enum WholeFile {
    /// Begins the names of what is not whole yet.
    static let partial = ".partial-"

    /// - Throws: ``WritingError``.
    static func write(_ bytes: some DataProtocol, to file: URL) throws {
        let folder = file.deletingLastPathComponent()
        let beside = folder.appendingPathComponent(partial + file.lastPathComponent)
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try Data().write(to: beside)
            let handle = try FileHandle(forWritingTo: beside)
            defer { try? handle.close() }
            try handle.write(contentsOf: bytes)
            try handle.synchronize()
        } catch {
            try? FileManager.default.removeItem(at: beside)
            throw WritingError(
                description: "\(file.lastPathComponent) cannot be written: \(error.localizedDescription)")
        }
        guard rename(beside.path, file.path) == 0 else {  // takes the place of a file of this name in one step
            try? FileManager.default.removeItem(at: beside)
            throw WritingError(description: "\(file.lastPathComponent) cannot be written: its place is taken")
        }
    }

    /// Removes what a process that was killed has left in a folder.
    static func removePartial(in folder: URL) {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        for name in names where name.hasPrefix(partial) {
            try? FileManager.default.removeItem(at: folder.appendingPathComponent(name))
        }
    }
}
