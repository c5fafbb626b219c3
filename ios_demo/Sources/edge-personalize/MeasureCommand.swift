import EdgeBundle
import EdgeOrt
import EdgePhotos
import EdgeRuntime
import EdgeSystem
import EdgeZO
import Foundation

/// Memory and time of a bundle on this machine, as a device record.
enum MeasureCommand: Command {
    static let usage = "edge-personalize measure --bundle DIR --output RESULT.json [options]"
    static let about =
        "Measure one step and one whole run of a bundle, and write the record for edge-sdk benchmark device."
    static let options = [
        Option(name: "bundle", value: "DIR", help: "a folder written by edge-sdk export", isRequired: true),
        Option(name: "output", value: "FILE", help: "the record, a new .json file", isRequired: true),
        Option(name: "max_train_steps", value: "INT", help: "steps of the run (default: the preset's)"),
        Option(name: "preset", value: "NAME", help: "fast or paper (default fast)"),
        Option(name: "zo_samples", value: "INT", help: "directions a step measures (default: the preset's)"),
        Option(name: "threads", value: "INT", help: "threads of the runtime; 0 lets it choose (default 0)"),
        Option(name: "max_batch", value: "INT", help: "rows per call of the denoiser"),
        Option(name: "eval_draws", value: "INT", help: "draws for the loss before and after (default: the bundle's)"),
        Option(
            name: "train_data_dir", value: "DIR", help: "folder with photos (default: five pictures made from the seed)"
        ),
        Option(name: "seed", value: "INT", help: "seed of every random number (default 0)"),
        Option(name: "quiet", kind: .flag, help: "print nothing but errors"),
    ]

    static func run(_ arguments: Arguments) async throws -> Int32 {
        var options = DeviceMeasurement.Options()
        if let preset = try arguments.choice("preset", FitOptions.Preset.allCases.map(\.rawValue)) {
            options.fit.preset = FitOptions.Preset(rawValue: preset)!
        }
        if let steps = try arguments.int("max_train_steps", 1...1_000_000_000) {
            options.fit.maxTrainSteps = .count(steps)
        }
        if let samples = try arguments.int("zo_samples", 1...4096) {
            options.fit.settings["zo_samples"] = .number(samples)
        }
        options.fit.maxBatch = try arguments.int("max_batch", 1...4096)
        options.fit.evalDraws = try arguments.int("eval_draws", 1...65_536)
        options.fit.seed = try arguments.seed()
        let threads = try arguments.int("threads", 0...256) ?? 0
        options.threads = threads > 0 ? threads : ProcessInfo.processInfo.activeProcessorCount
        let output = arguments.url("output")!
        try WholeFile.checkPlace(output)
        let bundle = try ModelBundle(arguments.url("bundle")!)
        if let source = arguments.url("train_data_dir") {
            options.photos = try PhotoFolder(source, resolution: bundle.manifest.resolution).photos
        }
        options.command = "edge-personalize measure \(CommandLine.arguments.dropFirst(2).joined(separator: " "))"
        let stop = StopSignal()
        let stopped = Flag()
        stop.onSignal { stopped.set() }
        let measurement = DeviceMeasurement(
            bundle, OrtLoader(threads: threads), machine: try machine(), options: options)
        let isQuiet = arguments.has("quiet")
        let record: Json
        do {
            record = try measurement.record { done, of in
                if !isQuiet { Terminal.write("step \(done)/\(of)") }
                return !stopped.isSet
            }
        } catch is CancellationError {
            Terminal.write("edge-personalize: stopped, nothing is written; measure again with the same command")
            throw Cancelled()
        }
        try WholeFile.write(Array((record.written(.indented) + "\n").utf8), to: output)
        if !isQuiet { print("wrote \(output.path)") }
        return Main.done
    }

    private static func machine() throws -> DeviceMeasurement.Machine {
        func line(_ path: String, _ key: String, _ separator: Character) -> String? {
            guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return nil }
            let found = text.split(separator: "\n").first { $0.hasPrefix(key) }
            return found?.split(separator: separator, maxSplits: 1).last.map {
                $0.trimmingCharacters(in: CharacterSet(charactersIn: " \""))
            }
        }
        #if arch(arm64)
            let kind = "arm64"
        #else
            let kind = "x86_64"
        #endif
        let cores = ProcessInfo.processInfo.activeProcessorCount
        let processor = line("/proc/cpuinfo", "model name", ":") ?? kind
        let system = line("/etc/os-release", "PRETTY_NAME", "=") ?? ProcessInfo.processInfo.operatingSystemVersionString
        return DeviceMeasurement.Machine(
            name: "Linux on \(processor)", system: system, cpu: "\(cores) x \(kind)",
            onnxruntime: try OrtLibrary.load().version)
    }
}

/// A flag that one thread sets and another one looks at.
final class Flag: @unchecked Sendable {
    private let lock = NSLock()
    private var value = false

    var isSet: Bool { lock.withLock { value } }
    func set() { lock.withLock { value = true } }
}
