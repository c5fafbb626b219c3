import EdgeBundle
import EdgePhotos
import EdgeSystem
import EdgeZO
import Foundation

/// From photos to an objective, and where to start: the twin of `edge_sdk/preparation.py`.
struct Prepared {
    let objective: BundleObjective
    let config: ZoConfig
    /// The initializer as the optimizer's variable, K D numbers.
    let start: [Float]
    /// The directions of Gauss-Newton; none for Adam.
    let basis: [[Float]]
    let initializer: String
    /// Of everything that must be the same when a run is resumed.
    let fingerprints: [String: String]
    /// What the user should know before the run starts, a line each.
    let notices: [String]
}

/// Photos below this are not of the kind that the embedded model draws: its VAE cannot reproduce them. In dB.
private let pocketPsnr = 20.0

/// Checks everything that the user chose, encodes the photos and closes the VAE; the loss is opened by its first call.
///
/// - Throws: `EdgeSdkError`: a setting out of range, a word that does not fit the vocabulary, no photo.
func prepare(
    _ bundle: ModelBundle, _ loader: any GraphLoader, _ photos: [Photo], placeholder: String, initializer: String?,
    _ options: FitOptions
) throws -> Prepared {
    try options.check()
    guard !photos.isEmpty else { throw EdgeSdkError("no photo is given; choose one or more, 3 to 5 are best") }
    let manifest = bundle.manifest, text = try BundleText(bundle)
    try text.checkPlaceholder(placeholder)
    guard let word = initializer ?? manifest.initializerToken else {
        throw EdgeSdkError(
            "initializer_token is not given; name what the photos show in one word, such as 'dog' or 'mug'")
    }
    if let target = bundle.manifest.target, target.vectors != options.numVectors {
        throw EdgeSdkError(
            "num_vectors is \(options.numVectors); the graphs of \(bundle.folder.path) are for \(target.vectors); give that, or "
                + "export a bundle with --num_vectors \(options.numVectors)")
    }
    let initial = try text.initialEmbedding(word, numVectors: options.numVectors)
    let prompts = try text.trainingPrompts(options.learnableProperty, placeholder: placeholder)
    let ids = try prompts.map { try text.row($0, placeholders: [(placeholder, options.numVectors)]) }
    let (config, notices) = try settings(bundle, options)
    let basis =
        config.optimizer == .gaussNewton
        ? try directions(
            bundle.principalDirections(config.searched), least: config.zoSamples, numVectors: options.numVectors)
        : []

    let side = manifest.resolution
    let pixels = photos.map { $0.square(side, crop: options.centerCrop).pixels }
    let latents = try encode(pixels, bundle, loader) { done in
        try Task.checkCancellation()
        options.onProgress?(.init(stage: .encodingPhotos, done: done, of: photos.count))
    }
    options.onProgress?(.init(stage: .encodingPhotos, done: photos.count, of: photos.count))
    let pocket = bundle.isPocket ? try pocketNotices(latents, pixels, Generator(text, loader: loader)) : []
    let sizes = photos.map { [Float($0.height), Float($0.width), 0, 0, Float(side), Float(side)] }
    let scale = bundle.scale
    return Prepared(
        objective: BundleObjective(
            bundle, loader, latents: latents, ids: ids, numVectors: options.numVectors, sizes: sizes),
        config: config, start: initial.indices.map { initial[$0] / scale[$0 % scale.count] }, basis: basis,
        initializer: word,
        fingerprints: [
            "model": manifest.model.sha256, "bundle": bundle.sha256, "token": "\(placeholder) from \(word)",
            "photos": fingerprint(pixels, ids, sizes),
        ],
        notices: notices + pocket)
}

/// The optimizer's settings for this model, and what the user should know of them.
private func settings(_ bundle: ModelBundle, _ options: FitOptions) throws -> (ZoConfig, [String]) {
    let manifest = bundle.manifest, preset = manifest.presets[options.preset.rawValue]!.config
    let config = try options.config(preset), range = config.timestepRange, steps = manifest.sampler.numTrainTimesteps
    guard range.high <= steps else {
        throw EdgeSdkError("timestep_range is \(range.low) \(range.high); this model has timesteps below \(steps)")
    }
    if options.settings["zo_mu"] != nil, let floor = manifest.muMin {
        try MuFloor.refuse(config, below: floor, how: "\(manifest.weights) \(manifest.execution)")
    }
    var notices: [String] = []
    if (range.low, range.high) != (0, steps) {
        notices.append(
            "the losses of steps are over timesteps \(range.low) to \(range.high - 1); compare runs by the held-out "
                + "losses, which are over all timesteps")
    }
    let idle = preset.withoutEffect(options.settings.keys)
    if !idle.isEmpty {
        notices.append(
            "\(idle.joined(separator: ", ")): without effect on optimizer \(preset.optimizer.rawValue), of preset "
                + "\(options.preset.rawValue); leave it out or choose the other --preset")
    }
    return (config, notices)
}

/// A warning where photos are not of the kind that the embedded model draws.
private func pocketNotices(_ latents: Latents, _ pixels: [[Float]], _ generator: Generator) throws -> [String] {
    let reproduced = try generator.decode(latents.mean)
    let each = zip(reproduced, pixels).map { picture, photo in
        let again = Photo(width: picture.side, height: picture.side, rgb: picture.rgb).pixels
        let error =
            zip(again, photo).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) } / Double(photo.count)
        return 10 * log10(4 / max(error, 1e-6))
    }
    let psnr = each.reduce(0, +) / Double(each.count)
    guard psnr < pocketPsnr else { return [] }
    return [
        "the embedded model draws pixel-art people only, and its VAE reproduces these photos at \(Int(psnr.rounded())) dB "
            + "only; expect their colours at best, and export a Stable Diffusion model for real photos"
    ]
}

/// What identifies photos and prompts, as Python computes it.
private func fingerprint(_ pixels: [[Float]], _ ids: [[Int]], _ sizes: [[Float]]) -> String {
    var hash = Sha256()
    func add<Number>(_ rows: [[Number]]) { for row in rows { row.withUnsafeBytes { hash.update($0) } } }
    add(pixels)  // phones and their simulators are little-endian, as the checkpoint's file is
    add(ids.map { $0.map(Int64.init) })
    add(sizes)
    return hash.hex()
}

extension Photo {
    /// (3, height, width) numbers in [-1, 1].
    var pixels: [Float] {
        let plane = width * height
        return (0..<(3 * plane)).map { Float(rgb[$0 % plane * 3 + $0 / plane]) / 127.5 - 1 }
    }
}
