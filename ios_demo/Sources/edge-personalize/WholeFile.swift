import EdgeSystem
import EdgeZO
import Foundation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Files that are there whole or not at all.
enum WholeFile {
    /// Begins the names of what is not finished.
    static let staged = ".edge-sdk-"

    private struct Failure: Error { let code: Int32 }

    /// Write a file under a temporary name of the same folder, flush it, and rename it.
    ///
    /// - Throws: `EdgeSdkError`: the disk is full, or the place not writable; an older file is still whole.
    static func write(_ bytes: [UInt8], to target: URL) throws {
        let folder = target.deletingLastPathComponent()
        let temporary = folder.appendingPathComponent("\(staged)\(target.lastPathComponent)")
        try refused(target) {
            do {
                try flushed(bytes, temporary)
                try rename(temporary, target)
            } catch {
                try? FileManager.default.removeItem(at: temporary)
                throw error
            }
            try sync(folder)
        }
    }

    /// - Throws: `EdgeSdkError`: the folder of a file to be written does not exist.
    static func checkPlace(_ file: URL) throws {
        var isFolder: ObjCBool = false
        let folder = file.deletingLastPathComponent().path
        guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), isFolder.boolValue else {
            throw EdgeSdkError("\(file.path) cannot be written: its folder does not exist; choose another place")
        }
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

    /// Turn a failing disk into a message about `what`; everything written before stays as it was.
    static func refused<Value>(_ what: URL, _ body: () throws -> Value) throws -> Value {
        do { return try body() } catch let failure as Failure {
            if [ENOSPC, EDQUOT].contains(failure.code) {
                throw EdgeSdkError("\(what.path) cannot be written: the disk is full; free some space and resume")
            }
            throw EdgeSdkError(
                "\(what.path) cannot be written: \(String(cString: strerror(failure.code))); choose another place")
        } catch let error as EdgeSdkError { throw error } catch {
            throw EdgeSdkError("\(what.path) cannot be written (\(error.localizedDescription)); choose another place")
        }
    }
}
