import Foundation
import XCTest

/// A bundle beside the golden one: the wheel's, or one of a folder that a variable of the environment names.
public enum SomeBundle {
    /// The embedded model's, int8.
    public static var embedded: URL {
        Golden.folder.appendingPathComponent("../../edge_sdk/pocket/bundle").standardizedFileURL
    }

    /// Folders of `EDGE_BUNDLES`, with ":" between.
    public static var given: [URL] {
        (ProcessInfo.processInfo.environment["EDGE_BUNDLES"] ?? "").split(separator: ":").map {
            URL(fileURLWithPath: String($0))
        }
    }
}

/// Skips a test where there is no library of ONNX Runtime.
public func requireOnnxRuntime() throws {
    #if os(Linux)
        let isThere = ProcessInfo.processInfo.environment["EDGE_ORT_LIBRARY"] != nil
        try XCTSkipUnless(isThere, "EDGE_ORT_LIBRARY does not name a library of ONNX Runtime")
    #endif
}
