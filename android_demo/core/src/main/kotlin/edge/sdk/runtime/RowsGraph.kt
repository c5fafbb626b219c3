package edge.sdk.runtime

import edge.sdk.EdgeSdkException

/**
 * A graph of fixed sizes, as bundles for one processor have them, run on any number of rows; the twin of
 * edge_sdk/runtime/rows.py.
 *
 * The last call is filled with copies of the last row, whose results are dropped; `learned` is filled with zeros.
 */
class RowsGraph(private val graph: Graph, private val entry: GraphEntry) : Graph {
    override fun run(inputs: Map<String, Tensor>, outputs: List<String>): Map<String, FloatTensor> {
        val (first, shape) = entry.inputs.entries.first { it.key != LEARNED }.let { it.key to it.value.shape }
        val rows = checkNotNull(shape[0])
        val count = inputs.getValue(first).shape[0]
        val fixed = entry.inputs[LEARNED]?.let { mapOf(LEARNED to filled(inputs.getValue(LEARNED) as FloatTensor, it)) }.orEmpty()
        val calls = (0 until count step rows).map { start ->
            val chosen = IntArray(rows) { minOf(start + it, count - 1) }
            graph.run((inputs - LEARNED).mapValues { (_, tensor) -> rowsOf(tensor, chosen) } + fixed, outputs)
        }
        return outputs.associateWith { name ->
            val sizes = calls[0].getValue(name).shape
            val size = sizes.drop(1).fold(1, Int::times)
            val data = FloatArray(count * size)
            calls.forEachIndexed { i, call ->
                val start = i * rows
                call.getValue(name).data.copyInto(data, start * size, 0, minOf(rows, count - start) * size)
            }
            FloatTensor(intArrayOf(count, *sizes.drop(1).toIntArray()), data)
        }
    }

    override fun close() = graph.close()

    private fun rowsOf(tensor: Tensor, chosen: IntArray): Tensor {
        val shape = tensor.shape.copyOf().also { it[0] = chosen.size }
        val size = shape.drop(1).fold(1, Int::times)
        return when (tensor) {
            is FloatTensor -> FloatTensor(shape, FloatArray(chosen.size * size) { tensor.data[chosen[it / size] * size + it % size] })
            is LongTensor -> LongTensor(shape, LongArray(chosen.size * size) { tensor.data[chosen[it / size] * size + it % size] })
        }
    }

    private fun filled(learned: FloatTensor, entry: GraphEntry.TensorEntry): FloatTensor {
        val shape = IntArray(entry.shape.size) { checkNotNull(entry.shape[it]) }
        if (learned.shape[0] > shape[0]) {
            throw EdgeSdkException(
                "a call has ${learned.shape[0]} vectors, and the bundle's graphs hold ${shape[0]}; use fewer words, or " +
                    "export a bundle with a larger --num_vectors",
            )
        }
        return FloatTensor(shape, learned.data.copyOf(shape.fold(1, Int::times)))
    }

    private companion object {
        const val LEARNED = "learned" // the one input that is not a row each
    }
}
