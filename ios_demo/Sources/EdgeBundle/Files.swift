import EdgeSystem
import EdgeZO
import Foundation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Input files: opened without waiting, and only if they are regular files. A named pipe would wait for ever.
public enum Files {
    /// The bytes of a file of at most `most` bytes.
    ///
    /// - Throws: `EdgeSdkError`, one line: missing, not readable, not a regular file, or larger.
    public static func read(_ file: URL, most: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        try open(file, most: most) { bytes.append(contentsOf: $0) }
        return bytes
    }

    /// SHA-256 of a file in hexadecimal digits; a megabyte at a time is in memory.
    ///
    /// - Throws: see ``read(_:most:)``.
    public static func sha256(_ file: URL) throws -> String {
        var hash = Sha256()
        try open(file, most: .max) { hash.update($0) }
        return hash.hex()
    }

    /// Some bytes of a file whose size was checked before.
    ///
    /// - Throws: `EdgeSdkError`: the file is not there any more, or shorter.
    static func read(_ file: URL, from offset: Int, count: Int) throws -> [UInt8] {
        let handle = try? FileHandle(forReadingFrom: file)
        defer { try? handle?.close() }
        try? handle?.seek(toOffset: UInt64(offset))
        guard let data = try? handle?.read(upToCount: count), data.count == count else {
            throw EdgeSdkError("\(file.path) has changed since it was checked; copy the bundle again")
        }
        return [UInt8](data)
    }

    private static let chunk = 1 << 20  // bytes

    private static func open(_ file: URL, most: Int, _ body: (UnsafeRawBufferPointer) -> Void) throws {
        func refusal(_ why: String) -> EdgeSdkError { EdgeSdkError("\(file.path) cannot be read: \(why)") }
        #if canImport(Glibc)
            let handle = Glibc.open(file.path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        #else
            let handle = Darwin.open(file.path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        #endif
        guard handle >= 0 else { throw refusal(String(cString: strerror(errno))) }
        defer { close(handle) }
        var info = stat()
        guard fstat(handle, &info) == 0, info.st_mode & S_IFMT == S_IFREG else {
            throw refusal("it is not a regular file")
        }
        guard info.st_size <= most else {
            throw refusal("it is larger than \(most >> 20) MB, the most that is read here")
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: chunk, alignment: 64)
        defer { buffer.deallocate() }
        while true {
            let count = Foundation.read(handle, buffer.baseAddress, chunk)
            guard count >= 0 else { throw refusal(String(cString: strerror(errno))) }
            guard count > 0 else { return }
            body(UnsafeRawBufferPointer(rebasing: buffer.prefix(count)))
        }
    }
}
