import EdgeBundle
import EdgePhotos
import EdgeSystem
import EdgeZO
import Foundation
import TestSupport

/// Graphs of the golden bundle whose outputs are formulas: whole runs without a runtime. It knows how many graphs are open.
final class FormulaLoader: GraphLoader {
    private let lock = NSLock()
    nonisolated(unsafe) private var open: [String] = []
    nonisolated(unsafe) private var calls = 0
    nonisolated(unsafe) private var _mostOpen = 0
    nonisolated(unsafe) private var _onMainThread = false
    /// Is told before every call of `zo_loss`, how many there were.
    let beforeCall: @Sendable (Int) -> Void

    init(beforeCall: @escaping @Sendable (Int) -> Void = { _ in }) { self.beforeCall = beforeCall }

    var mostOpen: Int { lock.withLock { _mostOpen } }
    var stillOpen: [String] { lock.withLock { open } }
    var onMainThread: Bool { lock.withLock { _onMainThread } }

    func open(_ bundle: ModelBundle, _ name: String) throws -> any Graph {
        lock.withLock {
            open.append(name)
            _mostOpen = max(_mostOpen, open.count)
        }
        let graph = FormulaGraph(bundle, name, self)
        guard bundle.manifest.target != nil, name == "zo_loss" else { return graph }
        return RowsGraph(graph, bundle.manifest.graphs[name]!)
    }

    fileprivate func closed(_ name: String) { lock.withLock { _ = open.remove(at: open.firstIndex(of: name)!) } }

    fileprivate func called() {
        let count = lock.withLock {
            calls += 1
            _onMainThread = _onMainThread || Thread.isMainThread
            return calls
        }
        beforeCall(count)
    }
}

private final class FormulaGraph: Graph {
    private let bundle: ModelBundle, name: String, loader: FormulaLoader
    private var isOpen = true

    init(_ bundle: ModelBundle, _ name: String, _ loader: FormulaLoader) {
        (self.bundle, self.name, self.loader) = (bundle, name, loader)
    }

    func close() {
        if isOpen { loader.closed(name) }
        isOpen = false
    }

    func run(_ inputs: [String: Tensor], outputs: [String]) throws -> [String: FloatTensor] {
        guard isOpen else { throw EdgeSdkError("the graph \(name) is closed; open it again") }
        let shape = bundle.manifest.latents, size = shape.reduce(1, *)
        func floats(_ name: String) -> [Float] {
            if case .float(let tensor) = inputs[name]! { tensor.data } else { [] }
        }
        switch name {
        case "vae_encoder":
            let pixels = floats("pixels")
            let mean = (0..<size).map { pixels[$0 % pixels.count] }
            return [
                "mean": .init(shape: [1] + shape, data: mean),
                "std": .init(shape: [1] + shape, data: mean.map { 0.1 * $0 }),
            ]
        case "zo_loss":
            loader.called()
            guard case .int64(let idShape, let ids) = inputs["input_ids"]! else { fatalError() }
            let learned = floats("learned"), noise = floats("noise"), latents = floats("latents")
            for port in bundle.manifest.graphs[name]!.inputs where bundle.manifest.target != nil {
                guard inputs[port.name]!.shape == port.shape else {
                    throw EdgeSdkError("\(port.name) is \(inputs[port.name]!.shape), not \(port.shape)")
                }
            }
            let width = bundle.scale.count, rows = idShape[0], vocabulary = bundle.manifest.embedding[0].vocabSize
            var residual: [Float] = [], losses: [Float] = []
            for b in 0..<rows {
                let row = ids[(b * idShape[1])..<((b + 1) * idShape[1])]
                let start = (Int(row.first { $0 >= vocabulary }!) - vocabulary) * width
                var square: Float = 0
                for i in 0..<size {
                    var value: Float = 0.5 + 0.1 * noise[b * size + i] - 0.05 * latents[b * size + i]
                    for d in 0..<width { value += 20 * learned[start + d] * Float((d * 7 + i * 3) % 11 - 5) }
                    residual.append(value)
                    square += value * value
                }
                losses.append(square / Float(size))
            }
            return [
                "loss": .init(shape: [rows], data: losses), "residual": .init(shape: [rows] + shape, data: residual),
            ]
        case "vae_decoder":
            let side = bundle.manifest.resolution
            return ["pixels": .init(shape: [1, 3, side, side], data: [Float](repeating: 0, count: 3 * side * side))]
        case "unet":
            return ["predicted": .init(shape: [2] + shape, data: floats("sample"))]
        default:
            let ports = bundle.manifest.graphs[name]!.outputs
            return Dictionary(
                uniqueKeysWithValues: ports.map { port in
                    let shape = port.shape.map { $0 ?? 1 }
                    return (
                        port.name, FloatTensor(shape: shape, data: [Float](repeating: 0, count: shape.reduce(1, *)))
                    )
                })
        }
    }
}

enum Example {
    static func bundle() throws -> ModelBundle { try ModelBundle(Golden.folder.appendingPathComponent("bundle")) }

    /// The same model as a bundle for one processor, whose loss takes three rows a call.
    static func bundleOfATarget(in folder: URL) throws -> ModelBundle {
        let copy = folder.appendingPathComponent("target"), manifest = copy.appendingPathComponent("manifest.json")
        try FileManager.default.copyItem(at: Golden.folder.appendingPathComponent("bundle"), to: copy)
        var text = try String(contentsOf: manifest, encoding: .utf8)
        text = text.replacingOccurrences(of: "\"B\"", with: "3").replacingOccurrences(of: "\"K\"", with: "3")
        text = text.replacingOccurrences(
            of: "\"format\": \"onnx\",",
            with: "\"format\": \"onnx\", \"target\": {\"name\": \"qnn\", \"rows\": 3, \"vectors\": 1},")
        try FileManager.default.removeItem(at: manifest)
        try text.write(to: manifest, atomically: true, encoding: .utf8)
        return try ModelBundle(copy)
    }

    /// Stripes of other colours.
    static let photos = (1...3).map { k in
        Photo(width: 8 + k, height: 8, rgb: (0..<(3 * (8 + k) * 8)).map { UInt8($0 * 7 * k % 256) })
    }
}
