import COnnxRuntime
import EdgeBundle
import EdgeSystem
import EdgeZO

/// How the manifest says that this runtime is to load a graph. Whoever makes them releases them.
struct OrtOptions {
    let pointer: OpaquePointer
    private let library: OrtLibrary

    /// Threads that spin for one another take the time of other programs, and the battery's.
    private static let patient = ["session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"]
    private static let levels = [
        "disable_all": ORT_DISABLE_ALL, "basic": ORT_ENABLE_BASIC, "extended": ORT_ENABLE_EXTENDED,
        "all": ORT_ENABLE_ALL,
    ]

    /// - Throws: `EdgeSdkError`: a setting of the manifest is not known or of the wrong type.
    init(_ library: OrtLibrary, _ bundle: ModelBundle, threads: Int) throws {
        let settings = bundle.manifest.runtime["onnxruntime"] ?? .object([])
        let api = library.api.pointee
        let what = "\(bundle.folder.path)/manifest.json has settings for onnxruntime that cannot be used"
        var made: OpaquePointer?
        try library.check(api.CreateSessionOptions(&made), what)
        (self.library, pointer) = (library, made!)
        do {
            let arena = try Self.flag(settings, "enable_cpu_mem_arena") ?? false
            try library.check(arena ? api.EnableCpuMemArena(pointer) : api.DisableCpuMemArena(pointer), what)
            // A pattern is one block for all tensors of a call: more at once than they take one after the other.
            try library.check(api.DisableMemPattern(pointer), what)
            let count = try threads > 0 ? threads : Self.count(settings["intra_op_num_threads"])
            try library.check(api.SetIntraOpNumThreads(pointer, Int32(count)), what)
            let level = settings["graph_optimization_level"]
            guard let chosen = Self.levels[level?.string ?? (level == nil ? "all" : "")] else {
                throw EdgeSdkError(
                    "graph_optimization_level is none of \(Self.levels.keys.sorted().joined(separator: ", "))")
            }
            try library.check(api.SetSessionGraphOptimizationLevel(pointer, chosen), what)
            for (key, value) in try Self.patient.merging(Self.entries(settings["session"]), uniquingKeysWith: { $1 }) {
                try library.check(api.AddSessionConfigEntry(pointer, key, value), what)
            }
        } catch {
            release()
            let reason = "\(error)".hasPrefix(what) ? "\(error)" : "\(what) (\(error))"
            throw EdgeSdkError("\(reason); make the bundle again with edge-sdk export")
        }
    }

    func release() { library.api.pointee.ReleaseSessionOptions(pointer) }

    private static func flag(_ settings: Json, _ name: String) throws -> Bool? {
        guard let value = settings[name] else { return nil }
        guard let flag = value.bool else { throw EdgeSdkError("\(name) is not true or false") }
        return flag
    }

    private static func count(_ value: Json?) throws -> Int {
        guard let value else { return 0 }
        guard let count = value.int, 0...256 ~= count else {
            throw EdgeSdkError("intra_op_num_threads is not an integer from 0 to 256")
        }
        return count
    }

    private static func entries(_ value: Json?) throws -> [String: String] {
        guard let value else { return [:] }
        var entries: [String: String] = [:]
        for (key, text) in value.entries ?? [] { entries[key] = text.string }
        guard entries.count == value.entries?.count else { throw EdgeSdkError("session holds other than texts") }
        return entries
    }
}
