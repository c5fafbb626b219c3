package edge.sdk.testing

import edge.sdk.runtime.Bundle
import edge.sdk.runtime.FloatTensor
import edge.sdk.runtime.Graph
import edge.sdk.runtime.GraphLoader
import edge.sdk.runtime.LongTensor
import edge.sdk.runtime.Tensor

/**
 * Graphs of a bundle that are formulas, so that a test needs no runtime: latents are shares of the pixels, and a
 * residual is linear in the vectors of its own row. It counts what is open.
 */
class FormulaGraphs : GraphLoader {
    /** Names of the graphs that are open now. */
    val open = mutableListOf<String>()

    /** Calls of `zo_loss` so far. */
    var calls = 0
        private set

    /** Is asked before each call of `zo_loss`, and may throw. */
    var beforeCall: () -> Unit = {}

    override fun open(bundle: Bundle, name: String): Graph = FormulaGraph(bundle, name).also { open += name }

    private inner class FormulaGraph(private val bundle: Bundle, private val name: String) : Graph {
        private var closed = false
        private val latents = bundle.manifest.latents.toIntArray()
        private val size = latents.fold(1, Int::times)

        override fun run(inputs: Map<String, Tensor>, outputs: List<String>): Map<String, FloatTensor> {
            check(!closed) { "$name is closed" }
            val all = when (name) {
                "vae_encoder" -> encode(inputs.floats("pixels"))
                "vae_decoder" -> bundle.manifest.resolution.let { side ->
                    mapOf("pixels" to FloatTensor(intArrayOf(1, 3, side, side), FloatArray(3 * side * side)))
                }
                "zo_loss" -> loss(inputs)
                else -> error("$name has no formula")
            }
            return outputs.associateWith(all::getValue)
        }

        private fun encode(pixels: FloatArray): Map<String, FloatTensor> {
            val shape = intArrayOf(1, *latents)
            return mapOf(
                "mean" to FloatTensor(shape, FloatArray(size) { 0.2f * pixels[it % pixels.size] }),
                "std" to FloatTensor(shape, FloatArray(size) { 0.05f }),
            )
        }

        private fun loss(inputs: Map<String, Tensor>): Map<String, FloatTensor> {
            beforeCall()
            calls++
            val ids = inputs.getValue("input_ids") as LongTensor
            val (x0, noise, learned) = listOf("latents", "noise", "learned").map { inputs.floats(it) }
            val (rows, length) = ids.shape
            val (vocabulary, width) = bundle.manifest.embedding[0].let { it.vocabSize to it.width }
            val residuals = FloatArray(rows * size)
            for (b in 0 until rows) {
                val vectors = (0 until length).map { ids.data[b * length + it] - vocabulary }.filter { it >= 0 }
                for (m in 0 until size) {
                    var sum = 0.5f + x0[b * size + m] + 0.01f * noise[b * size + m]
                    for (row in vectors) for (d in m % 4 until width step 4) sum += learned[row.toInt() * width + d]
                    residuals[b * size + m] = sum
                }
            }
            val losses = FloatArray(rows) { b ->
                (0 until size).sumOf { residuals[b * size + it].toDouble() * residuals[b * size + it] }.toFloat() / size
            }
            return mapOf(
                "loss" to FloatTensor(intArrayOf(rows), losses),
                "residual" to FloatTensor(intArrayOf(rows, *latents), residuals),
            )
        }

        override fun close() {
            if (!closed) open -= name
            closed = true
        }
    }
}

private fun Map<String, Tensor>.floats(name: String) = (getValue(name) as FloatTensor).data
