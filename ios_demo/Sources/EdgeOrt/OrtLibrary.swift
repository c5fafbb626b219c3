import COnnxRuntime
import EdgeSystem
import EdgeZO
import Foundation

/// ONNX Runtime's C API, as a table of functions, and the one environment of the process.
///
/// Telemetry is switched off before the library is loaded: it reads the variable once, and later calls come too late.
public final class OrtLibrary: @unchecked Sendable {
    let api: UnsafePointer<OrtApi>
    let environment: OpaquePointer
    /// Of the library, such as "1.26.0".
    public let version: String

    private static let shared = Result { try OrtLibrary() }

    /// Loads the library at the first call.
    ///
    /// - Throws: `EdgeSdkError`: it cannot be found or is too old.
    public static func load() throws -> OrtLibrary { try shared.get() }

    private init() throws {
        setenv("ORT_DISABLE_TELEMETRY", "1", 1)
        boundHeap()
        let base = try Self.base()
        version = String(cString: base.pointee.GetVersionString()!)
        guard let api = base.pointee.GetApi(UInt32(ORT_API_VERSION)) else {
            throw EdgeSdkError(
                "ONNX Runtime \(version) is too old: this program needs version \(ORT_API_VERSION) of its C API; "
                    + "install 1.\(ORT_API_VERSION) or newer")
        }
        self.api = api
        var made: OpaquePointer?
        try Self.check(
            api, api.pointee.CreateEnv(ORT_LOGGING_LEVEL_FATAL, "edge-sdk", &made), "ONNX Runtime cannot start")
        environment = made!
    }

    /// On Linux the library is opened by its path, on Apple systems it is linked.
    private static func base() throws -> UnsafePointer<OrtApiBase> {
        #if os(Linux)
            let given = ProcessInfo.processInfo.environment["EDGE_ORT_LIBRARY"]
            let path = given ?? "libonnxruntime.so"
            guard let handle = dlopen(path, RTLD_NOW | RTLD_LOCAL), let symbol = dlsym(handle, "OrtGetApiBase") else {
                let why = given == nil ? "EDGE_ORT_LIBRARY is not set" : String(cString: dlerror())
                throw EdgeSdkError(
                    "ONNX Runtime cannot be loaded (\(why)); set EDGE_ORT_LIBRARY to the path of libonnxruntime.so, "
                        + "of the Python package for example")
            }
            typealias Get = @convention(c) () -> UnsafePointer<OrtApiBase>
            return unsafeBitCast(symbol, to: Get.self)()
        #else
            return OrtGetApiBase()!
        #endif
    }

    /// Turn a status into an error.
    ///
    /// - Parameter what: failed, for the message.
    func check(_ status: OpaquePointer?, _ what: @autoclosure () -> String) throws {
        try Self.check(api, status, what())
    }

    private static func check(_ api: UnsafePointer<OrtApi>, _ status: OpaquePointer?, _ what: @autoclosure () -> String)
        throws
    {
        guard let status else { return }
        defer { api.pointee.ReleaseStatus(status) }
        let message = String(cString: api.pointee.GetErrorMessage(status)!)
        throw EdgeSdkError(
            "\(what()): \(message.split(whereSeparator: \.isWhitespace).joined(separator: " ").prefix(300))")
    }
}
