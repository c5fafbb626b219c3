import COnnxRuntime
import EdgeBundle
import EdgeSystem
import EdgeZO
import Foundation

/// Opens graphs of a bundle on ONNX Runtime.
public struct OrtLoader: GraphLoader {
    /// Threads of a graph; 0 lets the runtime choose.
    public let threads: Int

    public init(threads: Int = 0) { self.threads = threads }

    public func open(_ bundle: ModelBundle, _ name: String) throws -> any Graph {
        let graph = try OrtGraph(bundle, name, threads: threads)
        return bundle.manifest.target == nil ? graph : RowsGraph(graph, bundle.manifest.graphs[name]!)
    }
}

/// A graph of a bundle on ONNX Runtime, with the settings that keep weights integer and in their mapped file.
public final class OrtGraph: Graph {
    private let library: OrtLibrary
    private let name: String
    private var session: OpaquePointer?
    private var memory: OpaquePointer?  // where tensors of the caller lie

    /// - Throws: `EdgeSdkError`: the bundle has no such graph, is for another runtime, or the runtime refuses the graph.
    public init(_ bundle: ModelBundle, _ name: String, threads: Int = 0) throws {
        guard bundle.manifest.format == .onnx else {
            throw EdgeSdkError(
                "\(bundle.folder.path) is a bundle for \(bundle.manifest.format.rawValue); this runtime takes onnx, "
                    + "make one with edge-sdk export --format onnx")
        }
        let file = try bundle.graph(name).file.path
        self.name = name
        library = try OrtLibrary.load()
        let options = try OrtOptions(library, bundle, threads: threads)
        defer { options.release() }
        let what = "\(file) cannot be loaded by onnxruntime \(library.version)"
        do {
            try library.check(
                library.api.pointee.CreateSession(library.environment, file, options.pointer, &session), what)
            try library.check(
                library.api.pointee.CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory), what)
        } catch {
            close()
            throw EdgeSdkError("\(error); make the bundle again with edge-sdk export, or take a newer onnxruntime")
        }
    }

    deinit { close() }

    public func close() {
        library.api.pointee.ReleaseSession(session)
        library.api.pointee.ReleaseMemoryInfo(memory)
        (session, memory) = (nil, nil)
        releaseFreeMemory()
    }

    public func run(_ inputs: [String: Tensor], outputs names: [String]) throws -> [String: FloatTensor] {
        guard let session else { throw EdgeSdkError("the graph \(name) is closed; open it again") }
        let what = "the bundle's graph \(name) cannot be run"
        let api = library.api.pointee
        var values: [OpaquePointer?] = []
        var results = [OpaquePointer?](repeating: nil, count: names.count)
        defer { for value in values + results { api.ReleaseValue(value) } }
        let ordered = Array(inputs)
        try withCStrings(ordered.map(\.key)) { inputNames in
            try withCStrings(names) { outputNames in
                try withBuffers(ordered.map(\.value)) { tensors in
                    for tensor in tensors {
                        var value: OpaquePointer?
                        try library.check(
                            api.CreateTensorWithDataAsOrtValue(
                                memory, UnsafeMutableRawPointer(mutating: tensor.bytes.baseAddress), tensor.bytes.count,
                                tensor.shape, tensor.shape.count, tensor.type, &value), what)
                        values.append(value)
                    }
                    try library.check(
                        api.Run(
                            session, nil, inputNames, values, values.count, outputNames, names.count, &results), what)
                }
            }
        }
        var found: [String: FloatTensor] = [:]
        for (name, result) in zip(names, results) { found[name] = try read(result, what) }
        return found
    }

    /// A tensor of the runtime as numbers of our own.
    private func read(_ value: OpaquePointer?, _ what: String) throws -> FloatTensor {
        let api = library.api.pointee
        var info: OpaquePointer?
        try library.check(api.GetTensorTypeAndShape(value, &info), what)
        defer { api.ReleaseTensorTypeAndShapeInfo(info) }
        var type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED
        var (rank, count) = (0, 0)
        try library.check(api.GetTensorElementType(info, &type), what)
        guard type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT else {
            throw EdgeSdkError("\(what): an output is no float32; make the bundle again with edge-sdk export")
        }
        try library.check(api.GetDimensionsCount(info, &rank), what)
        var shape = [Int64](repeating: 0, count: rank)
        try library.check(api.GetDimensions(info, &shape, rank), what)
        try library.check(api.GetTensorShapeElementCount(info, &count), what)
        var data: UnsafeMutableRawPointer?
        try library.check(api.GetTensorMutableData(value, &data), what)
        let floats = UnsafeBufferPointer(
            start: data?.assumingMemoryBound(to: Float.self), count: data == nil ? 0 : count)
        return FloatTensor(shape: shape.map(Int.init), data: Array(floats))
    }
}

/// The memory of a tensor as the runtime takes it. It is valid within `withBuffers` only.
private struct Buffer {
    let bytes: UnsafeRawBufferPointer
    let shape: [Int64]
    let type: ONNXTensorElementDataType
}

/// Calls `body` with the memory of some tensors: nothing is copied.
private func withBuffers<Value>(_ tensors: [Tensor], _ body: ([Buffer]) throws -> Value) throws -> Value {
    var buffers: [Buffer] = []
    func next(_ i: Int) throws -> Value {
        guard i < tensors.count else { return try body(buffers) }
        let shape = tensors[i].shape.map(Int64.init)
        switch tensors[i] {
        case .float(let tensor):
            return try tensor.data.withUnsafeBytes { bytes in
                buffers.append(Buffer(bytes: bytes, shape: shape, type: ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT))
                return try next(i + 1)
            }
        case .int64(_, let data):
            return try data.withUnsafeBytes { bytes in
                buffers.append(Buffer(bytes: bytes, shape: shape, type: ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64))
                return try next(i + 1)
            }
        }
    }
    return try next(0)
}

/// Calls `body` with texts of C.
private func withCStrings<Value>(_ texts: [String], _ body: ([UnsafePointer<CChar>?]) throws -> Value) rethrows -> Value
{
    let copies = texts.map { strdup($0) }
    defer { for copy in copies { free(copy) } }
    return try body(copies.map { UnsafePointer($0) })
}
