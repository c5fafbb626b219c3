import EdgeBundle
import EdgeCoreML
import EdgeModel
import EdgeOrt
import EdgeRuntime
import Foundation

/// The library and the app's folders, put together.
@MainActor
enum Library {
    static func model() -> AppModel {
        var folder = FileManager.default.urls(for: .applicationSupportDirectory, in: .userDomainMask)[0]
            .appendingPathComponent("edge-sdk")
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
        var options = DeviceMeasurement.Options()
        options.threads = Device.threads
        options.battery = {
            DispatchQueue.main.sync { MainActor.assumeIsolated { Device.reading().battery.map(Double.init) } }
        }
        options.command = "the app's screen Measure"
        return BundleEngine(formats: formats, machine: Device.machine(), options: options) { bundle in
            if #available(iOS 18, *), bundle.manifest.format == .coreml {
                return try await CoreMLLoader(bundle, cache: cache)
            }
            return OrtLoader(threads: Device.threads)
        }
    }
}
