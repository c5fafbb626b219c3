import Foundation

#if canImport(Darwin)
    @preconcurrency import Darwin
#endif

/// Memory of this process in MB of 10^6 bytes, from the system's own counters. What a system does not tell is nil.
public struct ProcessMemory: Equatable, Sendable {
    /// Pages in memory, those of mapped files included.
    public var resident: Double?
    /// What no file holds and cannot be dropped: RssAnon on Linux, the footprint (`phys_footprint`) on Apple systems.
    public var anonymous: Double?
    /// Pages of mapped files.
    public var file: Double?

    /// What it is now.
    public static func now() -> ProcessMemory {
        #if canImport(Darwin)
            guard let info = taskInfo() else { return ProcessMemory() }
            let (resident, footprint) = (Double(info.resident_size) / 1e6, Double(info.phys_footprint) / 1e6)
            return ProcessMemory(resident: resident, anonymous: footprint, file: nil)
        #else
            let status = linuxStatus()
            return ProcessMemory(resident: status["VmRSS"], anonymous: status["RssAnon"], file: status["RssFile"])
        #endif
    }

    /// The largest resident memory since the process began, or since ``forgetPeak()``.
    static func peakResident() -> Double? {
        #if canImport(Darwin)
            taskInfo().map { Double($0.resident_size_peak) / 1e6 }
        #else
            linuxStatus()["VmHWM"]
        #endif
    }

    /// Begin a new peak, where that is allowed.
    static func forgetPeak() {
        #if os(Linux)
            try? Data("5".utf8).write(to: URL(fileURLWithPath: "/proc/self/clear_refs"))
        #endif
    }

    /// Every part's larger value.
    func larger(_ other: ProcessMemory) -> ProcessMemory {
        func most(_ a: Double?, _ b: Double?) -> Double? { [a, b].compactMap { $0 }.max() }
        return ProcessMemory(
            resident: most(resident, other.resident), anonymous: most(anonymous, other.anonymous),
            file: most(file, other.file))
    }

    /// Seconds of processors that this process has used.
    static func cpuSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    #if canImport(Darwin)
        private static func taskInfo() -> task_vm_info_data_t? {
            var info = task_vm_info_data_t()
            var count = mach_msg_type_number_t(MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size)
            let status = withUnsafeMutablePointer(to: &info) { pointer in
                pointer.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
                    task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
                }
            }
            return status == KERN_SUCCESS ? info : nil
        }
    #else
        /// The lines of /proc/self/status that count kB, in MB.
        private static func linuxStatus() -> [String: Double] {
            guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return [:] }
            var found: [String: Double] = [:]
            for line in text.split(separator: "\n") {
                let parts = line.split(whereSeparator: { $0 == ":" || $0.isWhitespace })
                if parts.count == 3, parts[2] == "kB", let kB = Double(parts[1]) {
                    found[String(parts[0])] = kB * 1024 / 1e6
                }
            }
            return found
        }
    #endif
}

/// Looks at the memory of this process again and again on a thread of its own, and keeps the largest values.
public final class MemoryPeak: @unchecked Sendable {
    private let lock = NSLock()
    private var largest = ProcessMemory()
    private var isOver = false

    /// - Parameter every: seconds between two looks.
    public init(every: Double = 0.005) {
        begin()
        Thread.detachNewThread { [self] in
            while look() { Thread.sleep(forTimeInterval: every) }
        }
    }

    /// Begin a new peak.
    public func begin() {
        ProcessMemory.forgetPeak()
        lock.withLock { largest = ProcessMemory.now() }
    }

    /// The largest values since the last ``begin()``; the system's own peak where it keeps one.
    public var value: ProcessMemory {
        _ = look()
        var peak = lock.withLock { largest }
        peak.resident = ProcessMemory.peakResident() ?? peak.resident
        return peak
    }

    public func end() { lock.withLock { isOver = true } }

    private func look() -> Bool {
        let now = ProcessMemory.now()
        return lock.withLock {
            largest = largest.larger(now)
            return !isOver
        }
    }
}
