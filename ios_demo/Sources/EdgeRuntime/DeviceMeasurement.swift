import EdgeBundle
import EdgePhotos
import EdgeSystem
import EdgeZO
import Foundation

/// What a bundle costs on this device: one step and one whole run, measured, as the record that
/// `edge-sdk benchmark device` reads. Its schema is that of benchmarks/results/memory*.json.
public struct DeviceMeasurement: Sendable {
    /// The machine's names; nil is what it does not tell.
    public struct Machine: Sendable {
        /// Such as "iPhone 15".
        public var name: String
        /// Such as "iOS 18.1".
        public var system: String
        /// Such as "6 x arm64".
        public var cpu: String
        /// Of ONNX Runtime; nil where another runtime is measured.
        public var onnxruntime: String?

        public init(name: String, system: String, cpu: String, onnxruntime: String?) {
            (self.name, self.system, self.cpu, self.onnxruntime) = (name, system, cpu, onnxruntime)
        }
    }

    public struct Options: Sendable {
        public var fit = FitOptions()
        /// Of a graph; nil where the runtime chooses.
        public var threads: Int?
        /// nil: five pictures of noise, made from the seed.
        public var photos: [Photo]?
        /// In degrees Celsius, and in percent; asked at the start and at the end.
        public var temperature: @Sendable () -> Double? = { nil }
        public var battery: @Sendable () -> Double? = { nil }
        /// How the record was made, for whoever makes it again.
        public var command = "Measure"

        public init() {}
    }

    public static let schemaVersion = 1
    static let client = "edge-sdk 0.1.0 (Swift)"

    let bundle: ModelBundle
    let loader: any GraphLoader
    let machine: Machine
    let options: Options

    public init(_ bundle: ModelBundle, _ loader: any GraphLoader, machine: Machine, options: Options = Options()) {
        (self.bundle, self.loader, self.machine, self.options) = (bundle, loader, machine, options)
    }

    /// Measure on the thread of the call.
    ///
    /// - Parameter report: gets the steps done and the steps of the run; false ends it.
    /// - Throws: `EdgeSdkError`; `CancellationError` where `report` gave false.
    public func record(report: (Int, Int) throws -> Bool = { _, _ in true }) throws -> Json {
        let peak = MemoryPeak(), fit = options.fit
        defer { peak.end() }
        var phases: [(key: String, value: Json)] = []
        func end(_ phase: String) { phases.append((phase, Self.json(peak.value))) }
        let before = (temperature: options.temperature(), battery: options.battery())
        end("import")

        peak.begin()
        let loading = Self.clock()
        let photos = options.photos ?? Self.pictures(seed: fit.seed, side: bundle.manifest.resolution)
        let word = bundle.manifest.initializerToken ?? bundle.manifest.initializers.keys.sorted().first
        let prepared = try prepare(bundle, loader, photos, placeholder: "<measured>", initializer: word, fit)
        defer { prepared.objective.close() }
        try prepared.objective.open()
        let loadSeconds = Self.clock() - loading
        let loaded = ProcessMemory.now()
        end("load")

        peak.begin()
        let session = try Session(
            .init(photos: photos, placeholder: "<measured>", initializer: word, options: fit), prepared, bundle)
        var seconds: [Double] = [], cpuSeconds: [Double] = []
        func step() throws -> Bool {
            let (wall, cpu) = (Self.clock(), ProcessMemory.cpuSeconds())
            guard let step = try session.run.next() else { return false }
            seconds.append(Self.clock() - wall)
            cpuSeconds.append(ProcessMemory.cpuSeconds() - cpu)
            guard try report(step.step, step.steps) else { throw CancellationError() }
            return true
        }
        _ = try step()
        end("step")

        // The run's peak is that of everything since its first step began.
        let lossInitial = try session.heldOutLoss(prepared.start)
        while try step() { _ = session.checkpoint }
        let lossFinal = try session.heldOutLoss(session.run.state.result)
        end("run")

        let state = session.run.state
        let weights = bundle.manifest.files.values.filter { $0.role == "weights" }.reduce(0) { $0 + $1.bytes }
        let pair = { (start: Double?, end: Double?) in
            Json.object([("start", .optional(start)), ("end", .optional(end))])
        }
        let run = Json.object([
            ("phases", .object(phases)),
            (
                "loaded",
                .object([("resident", .optional(loaded.resident)), ("anonymous", .optional(loaded.anonymous))])
            ),
            ("load_seconds", .number(loadSeconds)),
            ("seconds", .list(seconds.map { .number($0) })),
            ("cpu_seconds", .list(cpuSeconds.map { .number($0) })),
            ("computed", .object([])),
            ("peak_pss_mb", .null),
            ("native_heap_mb", .null),
            ("temperature_c", pair(before.temperature, options.temperature())),
            ("battery", pair(before.battery, options.battery())),
            ("loss_initial", .number(lossInitial)),
            ("loss_final", .number(lossFinal)),
        ])
        let kind = Json.object([
            ("kind", .text("device")), ("client", .text("swift")), ("weights", .text(bundle.manifest.weights)),
            ("preset", .text(fit.preset.rawValue)), ("threads", .optional(options.threads)),
            ("max_batch", .number(session.rows)), ("steps", .number(seconds.count)),
            ("steps_of_preset", .number(bundle.manifest.presets[fit.preset.rawValue]!.config.maxTrainSteps)),
            ("forwards", .number(state.forwards)), ("file_mb", .number(Double(weights) / 1e6)),
        ])
        let name = "\(bundle.manifest.weights) swift, \(machine.name)"
        return .object([
            ("schema_version", .number(Self.schemaVersion)), ("command", .list([.text(options.command)])),
            ("date", .text(Self.today())),
            (
                "machine",
                .object([
                    ("name", .text(machine.name)), ("system", .text(machine.system)), ("cpu", .text(machine.cpu)),
                    ("client", .text(Self.client)), ("onnxruntime", machine.onnxruntime.map(Json.text) ?? .null),
                ])
            ),
            ("device", .text("cpu")), ("model", .text(bundle.manifest.model.name)),
            ("checkpoints", .list([.text(bundle.folder.standardizedFileURL.lastPathComponent)])), ("limit_mb", .null),
            ("results", .object([(name, .object([("case", kind), ("runs", .list([run]))]))])),
        ])
    }

    /// Five pictures of coarse noise: what they show does not matter to memory and time.
    static func pictures(seed: UInt64, side: Int) -> [Photo] {
        (0..<5).map { i in
            let cells = integers(seed: seed, stream: .augmentation, step: UInt32(i), count: 3 * 8 * 8, below: 256)
            return Photo(width: 8, height: 8, rgb: cells.map { UInt8($0) }).square(side)
        }
    }

    private static func json(_ memory: ProcessMemory) -> Json {
        .object([
            ("resident", .optional(memory.resident)), ("anonymous", .optional(memory.anonymous)),
            ("file", .optional(memory.file)),
        ])
    }

    private static func clock() -> Double { ProcessInfo.processInfo.systemUptime }

    private static func today() -> String {
        let parts = Calendar(identifier: .gregorian).dateComponents([.year, .month, .day], from: Date())
        func digits(_ value: Int?, _ count: Int) -> String {
            let text = String(value ?? 0)
            return String(repeating: "0", count: max(0, count - text.count)) + text
        }
        return "\(digits(parts.year, 4))-\(digits(parts.month, 2))-\(digits(parts.day, 2))"
    }
}

extension Json {
    /// null for what is not known.
    static func optional(_ value: Double?) -> Json { value.map { .number($0) } ?? .null }
    static func optional(_ value: Int?) -> Json { value.map { .number($0) } ?? .null }
}
