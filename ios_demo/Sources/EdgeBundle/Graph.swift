/// One graph of a bundle on some runtime. It belongs to one task at a time.
public protocol Graph: AnyObject {
    /// The outputs of these names for inputs by name.
    /// - Throws: `EdgeSdkError` if the runtime refuses, or the graph is closed.
    func run(_ inputs: [String: Tensor], outputs: [String]) throws -> [String: FloatTensor]

    /// Lets go of everything; a second time does nothing. A graph that nobody holds closes itself.
    func close()
}

/// Opens graphs of a bundle by their names in its manifest, such as `zo_loss`. ONNX Runtime, Core ML and tests have one.
public protocol GraphLoader: Sendable {
    func open(_ bundle: ModelBundle, _ name: String) throws -> any Graph
}
