import EdgeSystem

/// A graph of fixed sizes, as bundles for one processor have them, run on any number of rows: the twin of
/// edge_sdk/runtime/rows.py.
///
/// The last call is filled with copies of the last row, whose results are dropped; `learned` is filled with zeros.
public final class RowsGraph: Graph {
    private let graph: any Graph
    private let ports: [Manifest.Port]
    private static let learned = "learned"  // the one input that is not a row each

    /// - Parameter entry: of the graph in its manifest, all of whose sizes are numbers.
    public init(_ graph: any Graph, _ entry: Manifest.Graph) {
        self.graph = graph
        ports = entry.inputs
    }

    public func run(_ inputs: [String: Tensor], outputs: [String]) throws -> [String: FloatTensor] {
        let first = ports.first { $0.name != Self.learned }!
        let rows = first.shape[0]!, count = inputs[first.name]!.shape[0]
        var found: [String: FloatTensor] = [:]
        for start in stride(from: 0, to: count, by: rows) {
            let chosen = (0..<rows).map { min(start + $0, count - 1) }
            var call: [String: Tensor] = [:]
            for port in ports {
                let tensor = inputs[port.name]!, shape = port.shape.map { $0! }
                call[port.name] =
                    try port.name == Self.learned ? Self.filled(tensor, shape) : Self.rows(of: tensor, chosen)
            }
            for (name, tensor) in try graph.run(call, outputs: outputs) {
                let size = tensor.data.count / rows
                let data = (found[name]?.data ?? []) + tensor.data.prefix(min(rows, count - start) * size)
                found[name] = FloatTensor(shape: [data.count / size] + tensor.shape.dropFirst(), data: data)
            }
        }
        return found
    }

    public func close() { graph.close() }

    private static func rows(of tensor: Tensor, _ chosen: [Int]) -> Tensor {
        let size = tensor.shape.dropFirst().reduce(1, *), shape = [chosen.count] + tensor.shape.dropFirst()
        func picked<Number>(_ data: [Number]) -> [Number] {
            chosen.flatMap { data[($0 * size)..<(($0 + 1) * size)] }
        }
        switch tensor {
        case .float(let floats): return .float(shape: shape, data: picked(floats.data))
        case .int64(_, let data): return .int64(shape: shape, data: picked(data))
        }
    }

    private static func filled(_ tensor: Tensor, _ shape: [Int]) throws -> Tensor {
        guard case .float(let learned) = tensor, learned.shape[0] <= shape[0] else {
            throw EdgeSdkError(
                "a call has \(tensor.shape[0]) vectors, and the bundle's graphs hold \(shape[0]); use fewer words, or "
                    + "export a bundle with a larger --num_vectors")
        }
        let missing = shape.reduce(1, *) - learned.data.count
        return .float(shape: shape, data: learned.data + Array(repeating: 0, count: missing))
    }
}
