package edge.sdk.runtime

/** Opens graphs on one runtime, such as ONNX Runtime. */
fun interface GraphLoader {
    /** @throws edge.sdk.EdgeSdkException the bundle has no such graph, or the runtime does not take it */
    fun open(bundle: Bundle, name: String): Graph
}
