import EdgeBundle
import EdgeRuntime
import EdgeSystem
import EdgeZO
import Foundation

/// `run.json`: what a run says of itself, with the keys of edge_sdk/run_log.py.
struct RunRecord {
    let bundle: ModelBundle
    let options: FitOptions
    let arguments: Arguments
    let account: RunAccount
    /// Steps of earlier processes.
    let resumed: Int
    let lossInitial: Double
    let lossFinal: Double
    let memory: ProcessMemory
    let photos: PhotoFolder
    /// Of ONNX Runtime.
    let version: String

    private static let schemaVersion = 1
    private static let edgeSdk = "0.1.0"

    private var state: RunState { account.state }

    var json: Json {
        let manifest = bundle.manifest
        let forwards = [
            ("floor of mu", 0),  // measured at the export
            ("held-out losses", account.heldOutForwards), ("steps", state.forwards),
            ("preview", 0), ("validation", 0),  // there are none
        ]
        return .object([
            ("schema_version", .number(Self.schemaVersion)), ("command", .text("personalize")),
            ("model", .text(manifest.model.name)), ("weights", .text(manifest.weights)),
            ("execution", .text(manifest.execution)), ("residency", .text("mapped")), ("device", .text("cpu")),
            ("preset", .text(options.preset.rawValue)), ("steps", .number(state.step)),
            ("max_batch", .number(account.rows)), ("unet_forwards", .number(state.forwards)),
            ("seconds", rounded(state.seconds, 1000)), ("peak_rss_mb", rounded(memory.resident, 10)),
            ("peak_anon_mb", rounded(memory.anonymous, 10)), ("loss_initial", .number(lossInitial)),
            ("loss_final", .number(lossFinal)), ("loss_draws", .number(account.lossDraws)),
            ("variance_share", account.varianceShare.map { .number($0) } ?? .null),
            ("mu_min", state.muMin.isFinite ? .number(state.muMin) : .null), ("mu_forwards", .number(0)),
            ("mu_source", account.muSource.map(Json.text) ?? .null),
            ("forwards", .number(forwards.reduce(0) { $0 + $1.1 })),
            ("forwards_of", .object(forwards.map { ($0.0, .number($0.1)) })),
            ("seed", .number(options.seed)), ("resumed", .number(resumed)),
            ("photos_used", .number(photos.photos.count)), ("photos_skipped", .number(photos.skipped)),
            ("config", config), ("zo", state.config.json),
            (
                "versions",
                .object([
                    ("edge-sdk", .text(Self.edgeSdk)), ("swift", .text(swiftVersion)), ("onnxruntime", .text(version)),
                ])
            ),
        ])
    }

    /// What the run did, in a line.
    var summary: String {
        func fixed(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }
        let peak = memory.resident.map { ", peak memory \(fixed($0, 0)) MB" } ?? ""
        return
            "loss \(fixed(lossInitial, 4)) -> \(fixed(lossFinal, 4)) on draws it never trained on, \(state.step) steps, "
            + "\(state.forwards) forward passes, \(fixed(state.seconds, 0)) s\(peak) (\(bundle.manifest.weights), \(bundle.manifest.execution))"
    }

    private var config: Json {
        let text = { (name: String) in arguments.text(name).map(Json.text) ?? .null }
        return .object([
            ("schema_version", .number(Self.schemaVersion)),
            ("placeholder_token", .text(arguments.text("placeholder_token") ?? "<subject>")),
            ("initializer_token", text("initializer_token")), ("learnable_property", .text(options.learnableProperty)),
            ("num_vectors", .number(options.numVectors)), ("resolution", .null),
            ("center_crop", .bool(options.centerCrop)),
            ("use_captions", .bool(false)),
            ("activations", .text("16")),  // a bundle decides it; the value that Python's record has beside one
            ("preset", .text(options.preset.rawValue)), ("search_basis", .null),
            ("max_batch", options.maxBatch.map { .number($0) } ?? .null),
            ("eval_draws", .number(account.lossDraws)),
            ("checkpointing_steps", options.checkpointingSteps.map { .number($0) } ?? .null),
            ("stop_when_flat", .bool(options.maxTrainSteps == .auto)), ("seed", .number(options.seed)),
            ("zo_options", .object(zoOptions)),
        ])
    }

    private var zoOptions: [(key: String, value: Json)] {
        var given = options.settings.sorted { $0.key < $1.key }.map { (key: $0.key, value: $0.value) }
        if case .count(let steps) = options.maxTrainSteps { given.append(("max_train_steps", .number(steps))) }
        return given
    }

    private func rounded(_ value: Double?, _ parts: Double) -> Json {
        value.map { .number(($0 * parts).rounded() / parts) } ?? .null
    }

    private var swiftVersion: String {
        #if swift(>=6.2)
            "6.2 or newer"
        #elseif swift(>=6.1)
            "6.1"
        #else
            "6.0"
        #endif
    }
}
