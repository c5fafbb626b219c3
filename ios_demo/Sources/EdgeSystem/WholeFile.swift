import Foundation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A file could not be written; one of its name is as it was.
package struct WritingError: Error, CustomStringConvertible, LocalizedError {
    package let description: String
    package var errorDescription: String? { description }
}

/// Files that are there whole or not at all, even if the process is killed or the power fails meanwhile.
package enum WholeFile {
    /// Begins the names of what is not finished.
    package static let staged = ".edge-sdk-"

    private struct Failure: Error { let code: Int32 }

    /// Write a file under a temporary name of the same folder, which is made if there is none, flush it, and rename it.
    ///
    /// - Throws: `WritingError`: the disk is full, or the place not writable; an older file is still whole.
    package static func write(_ bytes: some Collection<UInt8>, to target: URL) throws {
        let folder = target.deletingLastPathComponent()
        let temporary = folder.appendingPathComponent("\(staged)\(target.lastPathComponent)")
        try refused(target) {
            do {
                try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
                try flushed(Array(bytes), temporary)
                try rename(temporary, target)
            } catch {
                try? FileManager.default.removeItem(at: temporary)
                throw error
            }
            try sync(folder)
        }
    }

    /// Removes what a process that was killed has left in a folder.
    package static func removeStaged(in folder: URL) {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        for name in names where name.hasPrefix(staged) {
            try? FileManager.default.removeItem(at: folder.appendingPathComponent(name))
        }
    }

    /// - Throws: `EdgeSdkError`: the folder of a file to be written does not exist.
    package static func checkPlace(_ file: URL) throws {
        var isFolder: ObjCBool = false
        let folder = file.deletingLastPathComponent().path
        guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), isFolder.boolValue else {
            throw EdgeSdkError("\(file.path) cannot be written: its folder does not exist; choose another place")
        }
    }

    /// A new file for its owner alone, on the disk when this returns.
    package static func flushed(_ bytes: [UInt8], _ file: URL) throws {
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

    package static func rename(_ from: URL, _ to: URL) throws {
        guard Foundation.rename(from.path, to.path) == 0 else { throw Failure(code: errno) }
    }

    /// Flush a folder's entries.
    package static func sync(_ folder: URL) throws {
        let handle = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard handle >= 0 else { throw Failure(code: errno) }
        defer { close(handle) }
        guard fsync(handle) == 0 else { throw Failure(code: errno) }
    }

    /// Turn a failing disk into a `WritingError` about `what`; everything written before stays as it was.
    package static func refused<Value>(_ what: URL, _ body: () throws -> Value) throws -> Value {
        do { return try body() } catch let failure as Failure {
            let why = "\(what.path) cannot be written: "
            if [ENOSPC, EDQUOT].contains(failure.code) {
                throw WritingError(description: why + "the disk is full; free some space and resume")
            }
            throw WritingError(description: why + "\(String(cString: strerror(failure.code))); choose another place")
        } catch let error as EdgeSdkError { throw error } catch {
            throw WritingError(
                description: "\(what.path) cannot be written (\(error.localizedDescription)); choose another place")
        }
    }
}
