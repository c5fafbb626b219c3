import EdgeBundle
import EdgeCoreML
import EdgeModel
import EdgeOrt
import Foundation

/// The library and the app's folders, put together.
@MainActor
enum Library {
    static func model() -> AppModel {
        var folder = URL.applicationSupportDirectory.appendingPathComponent("edge-sdk")
        try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        var values = URLResourceValues()
        values.isExcludedFromBackup = true  // photos and models stay on this device
        try? folder.setResourceValues(values)
        let engine = engine(cache: folder.appendingPathComponent("compiled"))
        return AppModel(
            shelf: Shelf(folder.appendingPathComponent("bundles"), engine: engine),
            store: SessionStore(folder.appendingPathComponent("session")), engine: engine, decoder: FileDecoder(),
            makeSeed: { .random(in: 0..<1 << 32) }, log: { print($0) })
    }

    private static func engine(cache: URL) -> BundleEngine {
        var formats: Set = ["onnx"]
        if #available(iOS 18, *) { formats.insert("coreml") }
        let machine = Device.machine()
        return BundleEngine(
            formats: formats,
            loaders: { bundle in
                if #available(iOS 18, *), bundle.manifest.format == .coreml { return try await CoreMLLoader(bundle, cache: cache) }
                return OrtLoader(threads: Device.threads)
            },
            machine: machine)
    }
}
