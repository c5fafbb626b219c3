#if canImport(CoreML)
    import CoreML
    import EdgeBundle
    import EdgeSystem
    import EdgeZO
    import Foundation

    /// A function of a Core ML package as a graph. Its sizes are fixed: one row, or those of a bundle's target (`RowsGraph`).
    ///
    /// The arrays that go in are made once and written anew for each call. All that comes out is float32: with float16 losses that
    /// are nearly equal would come out as the same number.
    @available(iOS 18, macOS 15, *)
    final class CoreMLGraph: Graph {
        private let name: String
        private let described: Manifest.Graph
        private var model: MLModel?
        private let inputs: [String: MLMultiArray]

        init(_ name: String, _ model: MLModel, _ described: Manifest.Graph) throws {
            (self.name, self.model, self.described) = (name, model, described)
            inputs = try Dictionary(
                uniqueKeysWithValues: described.inputs.map { port in
                    let shape = try sizes(of: port, name)
                    let type: MLMultiArrayDataType = port.dtype == "float32" ? .float32 : .int32
                    return (port.name, try MLMultiArray(shape: shape.map { NSNumber(value: $0) }, dataType: type))
                })
        }

        /// Runs as many rows as are given, one call after the other. `learned` belongs to all rows of a call, so more vectors than a
        /// call takes are refused: the ids would name others.
        func run(_ given: [String: Tensor], outputs: [String]) throws -> [String: FloatTensor] {
            guard let model else { throw EdgeSdkError("the graph \(name) is closed; open it again") }
            let calls = try count(given)
            var found: [String: [Float]] = [:]
            for call in 0..<calls {
                for port in described.inputs { try write(given[port.name]!, of: port, call: call, of: calls) }
                try autoreleasepool {
                    let provider = try MLDictionaryFeatureProvider(dictionary: inputs)
                    let made: any MLFeatureProvider
                    do { made = try model.prediction(from: provider) } catch {
                        throw EdgeSdkError(
                            "Core ML cannot run the graph \(name) (\(oneLine(error))); see the bundle's README")
                    }
                    for output in outputs { found[output, default: []] += try values(made, output) }
                }
            }
            return try found.reduce(into: [:]) { out, entry in
                guard let port = described.outputs.first(where: { $0.name == entry.key }) else {
                    throw unknown(entry.key)
                }
                var shape = try sizes(of: port, name)
                shape[0] *= calls
                out[entry.key] = FloatTensor(shape: shape, data: entry.value)
            }
        }

        func close() { model = nil }

        /// Calls that the rows given make.
        private func count(_ given: [String: Tensor]) throws -> Int {
            var calls = 1
            for port in described.inputs {
                guard let tensor = given[port.name] else {
                    throw EdgeSdkError("the graph \(name) needs the input \(port.name)")
                }
                let own = try sizes(of: port, name)
                guard tensor.shape.count == own.count, tensor.shape.dropFirst().elementsEqual(own.dropFirst()),
                    let rows = tensor.shape.first, rows > 0, rows % own[0] == 0
                else { throw EdgeSdkError("the input \(port.name) of \(name) is \(tensor.shape); it must be \(own)") }
                if port.name == "learned", rows != own[0] {
                    throw EdgeSdkError(
                        "the graph \(name) takes \(own[0]) learned vectors, not \(rows); give one row a call (maxBatch 1)"
                    )
                }
                if port.name != "learned" { calls = max(calls, rows / own[0]) }
            }
            for port in described.inputs where port.name != "learned" {
                let rows = given[port.name]!.shape[0]
                guard try rows == calls * sizes(of: port, name)[0] else {
                    throw EdgeSdkError("the input \(port.name) of \(name) has \(rows) rows, and another one \(calls)")
                }
            }
            return calls
        }

        /// Puts the values of a call into the array of an input.
        private func write(_ tensor: Tensor, of port: Manifest.Port, call: Int, of calls: Int) throws {
            let array = inputs[port.name]!, count = array.count
            let start = port.name == "learned" ? 0 : call * count
            try array.withUnsafeMutableBytes { bytes, strides in
                guard strides == contiguous(try sizes(of: port, name)) else {
                    throw EdgeSdkError("Core ML lays out the input \(port.name) of \(name) with gaps; report this")
                }
                switch (tensor, port.dtype) {
                case (.float(let tensor), "float32"):
                    tensor.data.withUnsafeBytes {
                        bytes.copyMemory(
                            from: UnsafeRawBufferPointer(rebasing: $0[(4 * start)..<(4 * (start + count))]))
                    }
                case (.int64(_, let data), _):
                    let target = bytes.bindMemory(to: Int32.self)
                    for i in 0..<count {
                        guard let value = Int32(exactly: data[start + i]) else {
                            throw EdgeSdkError(
                                "\(data[start + i]) in the input \(port.name) of \(name) is no 32-bit number")
                        }
                        target[i] = value
                    }
                default: throw EdgeSdkError("the input \(port.name) of \(name) must be \(port.dtype)")
                }
            }
        }

        /// The numbers of an output in C order.
        private func values(_ made: any MLFeatureProvider, _ output: String) throws -> [Float] {
            guard let array = made.featureValue(for: output)?.multiArrayValue else { throw unknown(output) }
            guard array.dataType == .float32 else {
                throw EdgeSdkError("the output \(output) of \(name) is not float32; export the bundle again")
            }
            return MLShapedArray<Float>(array).scalars
        }

        private func unknown(_ output: String) -> EdgeSdkError {
            EdgeSdkError(
                "the graph \(name) has no output \(output); it has \(described.outputs.map(\.name).joined(separator: ", "))"
            )
        }
    }

    /// The sizes of a tensor, all of which Core ML must know.
    private func sizes(of port: Manifest.Port, _ graph: String) throws -> [Int] {
        let known = port.shape.compactMap { $0 }
        guard known.count == port.shape.count, !known.isEmpty else {
            throw EdgeSdkError(
                "\(port.name) of \(graph) has a size without a number; export the bundle again for Core ML")
        }
        return known
    }

    /// Strides of an array without gaps.
    private func contiguous(_ shape: [Int]) -> [Int] {
        var strides = Array(repeating: 1, count: shape.count)
        for i in shape.indices.dropLast().reversed() { strides[i] = strides[i + 1] * shape[i + 1] }
        return strides
    }
#endif
