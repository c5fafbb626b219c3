package edge.sdk.runtime

/**
 * A graph of a bundle, loaded. It holds memory outside of the heap, so its lifetime is a scope: `loader.open(...).use {
 * }`.
 *
 * Closing it twice does no harm.
 */
interface Graph : AutoCloseable {
    /**
     * Computes some outputs.
     *
     * @param inputs by name; all that the manifest lists for the graph, with its types and shapes
     * @param outputs names of what is wanted
     * @return the outputs by name
     * @throws edge.sdk.EdgeSdkException the runtime cannot compute them
     * @throws IllegalStateException the graph is closed
     */
    fun run(inputs: Map<String, Tensor>, outputs: List<String>): Map<String, FloatTensor>

    override fun close()
}
