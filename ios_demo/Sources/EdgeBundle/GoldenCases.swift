import EdgeSystem
import EdgeZO
import Foundation

/// The golden vectors of a bundle, and what a runtime makes of them: the twin of edge_sdk/export/cases.py.
///
/// `golden.json` holds inputs and outputs of every graph, as PyTorch computes them on the same weights.
public struct GoldenCases: Sendable {
    /// What a runtime made of the cases of one graph.
    public struct Outcome: Sendable {
        public let graph: String
        public let cases: Int
        /// max |found - wanted| / max |wanted|; infinite for another shape or what is not finite.
        public let worst: Double
        public let bound: Double

        public var isGood: Bool { worst <= bound }
    }

    private static let mostBytes = 64 << 20
    private static let leastElements = 1 << 22  // that a tensor may have whatever the size of pictures
    private let bundle: ModelBundle
    private let cases: [Json]

    /// Read `golden.json` and check every case by the manifest, before memory is taken for its tensors.
    ///
    /// - Throws: `EdgeSdkError`, one line: the file is damaged, has no cases, or a case compares nothing.
    public init(_ bundle: ModelBundle) throws {
        let file = bundle.folder.appendingPathComponent("golden.json")
        let bytes = try Files.read(file, most: Self.mostBytes)
        self.bundle = bundle
        do {
            let golden = try Json.parse(bytes)
            try Self.table.check(golden)
            cases = golden["cases"]!.items!
            for (i, each) in cases.enumerated() {
                do { try Self.check(each, bundle.manifest) } catch { throw EdgeSdkError("case \(i): \(error)") }
            }
        } catch { throw EdgeSdkError("\(file.path) cannot be used: \(error); \(Manifest.again)") }
    }

    /// Run every case, one graph after the other.
    ///
    /// - Parameter runtime: which bound of a case counts: `onnxruntime` or `coreml`.
    /// - Throws: `EdgeSdkError`: a graph cannot be opened or run, or has no bound for this runtime.
    public func run(_ loader: any GraphLoader, runtime: String) throws -> [Outcome] {
        var outcomes: [Outcome] = []
        for name in bundle.manifest.graphs.keys.sorted() {
            let own = cases.filter { $0["graph"]?.string == name }
            if own.isEmpty { continue }
            let graph = try loader.open(bundle, name)
            defer { graph.close() }
            var (worst, bound) = (0.0, Double.infinity)
            for each in own {
                guard let most = each["bounds"]?[runtime]?.double else {
                    throw EdgeSdkError("golden.json has no bound of \(name) for \(runtime); \(Manifest.again)")
                }
                let inputs = Dictionary(
                    uniqueKeysWithValues: each["inputs"]!.entries!.map { ($0.key, Self.value(of: $0.value)) })
                let outputs = each["outputs"]!.entries!
                let found = try graph.run(inputs, outputs: outputs.map(\.key))
                for (key, tensor) in outputs { worst = max(worst, Self.difference(found[key], tensor)) }
                bound = min(bound, most)
            }
            outcomes.append(Outcome(graph: name, cases: own.count, worst: worst, bound: bound))
        }
        return outcomes
    }

    /// An input as a tensor; values that are left out at its end are zeros.
    private static func value(of input: Json) -> Tensor {
        let shape = input["shape"]!.items!.compactMap(\.int)
        let count = shape.reduce(1, *)
        if input["dtype"]?.string != "float32" {
            let listed = input["values"]!.items!.map { Int64($0.int!) }
            return .int64(shape: shape, data: listed + Array(repeating: 0, count: count - listed.count))
        }
        guard let source = input["normals"] else {
            let listed = input["values"]!.items!.map { Float($0.double!) }
            return .float(shape: shape, data: listed + Array(repeating: 0, count: count - listed.count))
        }
        let scale = Float(input["scale"]?.double ?? 1)
        let offset = Float(input["offset"]?.double ?? 0)
        let ends = input["clip"]?.items?.map { Float($0.double!) }
        let random = normals(
            seed: source["seed"]!.uint64!, stream: Stream(rawValue: UInt32(source["stream"]!.int!))!,
            step: UInt32(source["step"]!.int!), count: count)
        let data = random.map { number in
            let value = number * scale + offset
            return ends.map { min(max(value, $0[0]), $0[1]) } ?? value
        }
        return .float(shape: shape, data: data)
    }

    private static func difference(_ found: FloatTensor?, _ output: Json) -> Double {
        guard let found, found.shape == output["shape"]!.items!.map(\.int), found.data.allSatisfy(\.isFinite) else {
            return .infinity
        }
        let values = output["values"]!.items!.map { $0.double! }
        let stride = output["stride"]?.int ?? 1
        let largest = values.reduce(1e-30) { max($0, abs($1)) }
        return values.enumerated().reduce(0) {
            max($0, abs(Double(found.data[$1.offset * stride]) - $1.element) / largest)
        }
    }
}

extension GoldenCases {
    private static let table: Kind = {
        let shape = Kind.many(.whole(1...1 << 24), 0...8)
        let normals = Kind.entries([
            ("seed", .anything), ("stream", .whole(0...4)), ("step", .whole(0...Int(UInt32.max))),
        ])
        let input = Kind.entries([
            ("shape", shape), ("dtype", .oneOf(["float32", "int32", "int64"])), ("normals", .maybe(normals)),
            ("scale", .maybe(.real)), ("offset", .maybe(.real)), ("clip", .maybe(.many(.real, 2...2))),
            ("values", .maybe(.many(.real))),
        ])
        let output = Kind.entries([
            ("shape", shape), ("values", .many(.real, 1...1 << 24)), ("stride", .maybe(.whole(1...1 << 24))),
        ])
        return .entries([
            ("schema_version", .whole(1...1)),
            (
                "cases",
                .many(
                    .entries([
                        ("graph", .text), ("inputs", .named(input)), ("outputs", .named(output)),
                        ("bounds", .named(.real)),
                    ]), 1...10_000)
            ),
        ])
    }()

    /// A case against the graph that it names.
    private static func check(_ one: Json, _ manifest: Manifest) throws {
        guard let name = one["graph"]?.string, let graph = manifest.graphs[name] else {
            throw EdgeSdkError(
                "graph is \(one["graph"]!.short); the bundle has "
                    + "\(manifest.graphs.keys.sorted().joined(separator: ", "))")
        }
        let most = max(leastElements, 4 * manifest.resolution * manifest.resolution)
        for (kind, ports) in [("inputs", graph.inputs), ("outputs", graph.outputs)] {
            let tensors = one[kind]!.entries!
            let names = Set(tensors.map(\.key)).symmetricDifference(ports.map(\.name))
            if kind == "outputs", tensors.isEmpty { throw EdgeSdkError("it has no outputs, so it compares nothing") }
            if let unknown = names.min() {
                throw EdgeSdkError("\(kind) and those of the graph differ in \(shown(unknown))")
            }
            for port in ports {
                let tensor = one[kind]![port.name]!
                let shape = tensor["shape"]!.items!.compactMap(\.int)
                let fits = shape.count == port.shape.count && zip(shape, port.shape).allSatisfy { $0 == $1 ?? $0 }
                let size = shape.reduce(1.0) { $0 * Double($1) }
                let place = "\(kind).\(shown(port.name))"
                guard fits else { throw EdgeSdkError("\(place).shape is \(shape), which is not the graph's") }
                guard size <= Double(most) else {
                    throw EdgeSdkError("\(place).shape is \(shape), of more than \(most) values")
                }
                try kind == "inputs" ? checkInput(tensor, Int(size), place) : checkOutput(tensor, Int(size), place)
            }
        }
    }

    private static func checkInput(_ tensor: Json, _ size: Int, _ place: String) throws {
        if let normals = tensor["normals"] {
            guard tensor["dtype"]?.string == "float32" else { throw EdgeSdkError("\(place): normals are float32") }
            guard normals["seed"]?.uint64 != nil else { throw EdgeSdkError("\(place).normals.seed is no seed") }
        } else {
            guard let values = tensor["values"]?.items else { throw EdgeSdkError("\(place).values is missing") }
            guard values.count <= size else {
                throw EdgeSdkError("\(place).values are \(values.count); its shape has \(size)")
            }
            guard tensor["dtype"]?.string == "float32" || values.allSatisfy({ $0.int != nil }) else {
                throw EdgeSdkError("\(place).values are no integers")
            }
        }
    }

    private static func checkOutput(_ tensor: Json, _ size: Int, _ place: String) throws {
        let stride = tensor["stride"]?.int ?? 1
        let (count, due) = (tensor["values"]!.items!.count, (size + stride - 1) / stride)
        guard count == due else { throw EdgeSdkError("\(place).values are \(count); its shape and stride make \(due)") }
    }
}
