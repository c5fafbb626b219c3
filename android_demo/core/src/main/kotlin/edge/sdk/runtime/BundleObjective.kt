package edge.sdk.runtime

import edge.sdk.zo.Draw
import edge.sdk.zo.Objective

/** A photo as the VAE sees it: mean and standard deviation of the posterior, (C, h, w) each, scaled. */
class Latents(val mean: FloatArray, val std: FloatArray)

/** Encodes photos, pixels (3, H, W) from -1 to 1 each, one at a time to bound memory; the graph is open meanwhile. */
fun encode(bundle: Bundle, graphs: GraphLoader, photos: Iterable<FloatArray>): List<Latents> {
    val side = bundle.manifest.resolution
    return graphs.open(bundle, "vae_encoder").use { encoder ->
        photos.map { pixels ->
            val input = FloatTensor(intArrayOf(1, 3, side, side), pixels)
            val outputs = encoder.run(mapOf("pixels" to input), listOf("mean", "std"))
            Latents(outputs.getValue("mean").data, outputs.getValue("std").data)
        }
    }
}

/**
 * A bundle's graph `zo_loss` as an objective: loss(embedding, draw) = mean of (target - denoiser(z_t, t,
 * text(embedding)))^2, all of it inside the graph. The twin of edge_sdk/runtime/onnx/objective.py.
 *
 * An embedding is the optimizer's variable: the bundle's scale times it are the vectors. The graph takes one list of
 * vectors a call, so each row's ids name vectors of its own.
 *
 * @param latents of the photos
 * @param ids of prompts for all photos, (P, T); ids from `vocab_size` on stand for the placeholder's vectors
 * @param sizes (height, width) of each photo as it came; SDXL is told
 * @param numVectors K
 */
class BundleObjective(
    private val bundle: Bundle,
    private val graphs: GraphLoader,
    private val latents: List<Latents>,
    private val ids: List<LongArray>,
    private val sizes: List<IntArray>,
    numVectors: Int,
) : Objective, AutoCloseable {
    private val manifest = bundle.manifest
    private val lossInputs = manifest.graphs[ZO_LOSS]?.inputs?.keys.orEmpty()
    private var graph: Graph? = null
    override val numImages = latents.size
    override val numPrompts = ids.size
    override val numTrainTimesteps = manifest.scheduler.int("num_train_timesteps")
    override val latentsShape = manifest.latents.toIntArray()
    override val embeddingShape = intArrayOf(numVectors, bundle.scale.size)

    /** The first id that stands for a vector, at each place of a row; SDXL's rows are those of two vocabularies. */
    private val firstVector = manifest.tokens.zip(manifest.embedding)
        .flatMap { (marks, part) -> List(marks.length) { part.vocabSize.toLong() } }.toLongArray()

    override fun losses(embeddings: List<FloatArray>, draws: List<Draw>): DoubleArray {
        if ("loss" !in manifest.graphs[ZO_LOSS]?.outputs.orEmpty()) { // of a processor that would round it
            return residuals(embeddings, draws).map { row -> row.sumOf { it * it } / row.size }.toDoubleArray()
        }
        val losses = call(embeddings, draws, "loss").data
        return DoubleArray(draws.size) { losses[it].toDouble() }
    }

    override fun residuals(embeddings: List<FloatArray>, draws: List<Draw>): List<DoubleArray> {
        val most = manifest.target?.rows ?: draws.size // each row of a call has vectors of its own
        return draws.indices.step(most).flatMap { start ->
            val some = draws.subList(start, minOf(start + most, draws.size))
            val residuals = call(embeddings.subList(start, start + some.size), some, "residual").data
            val size = residuals.size / some.size
            List(some.size) { b -> DoubleArray(size) { residuals[b * size + it].toDouble() } }
        }
    }

    /** Opens the graph now, rather than with the first call. */
    fun open() {
        graph = graph ?: graphs.open(bundle, ZO_LOSS)
    }

    /** Closes the graph until it is needed again. */
    override fun close() {
        graph?.close()
        graph = null
    }

    private fun call(embeddings: List<FloatArray>, draws: List<Draw>, output: String): FloatTensor {
        open()
        val distinct = ArrayList<FloatArray>()
        val owner = IntArray(draws.size) { b -> // neighbouring rows share their vectors
            if (distinct.isEmpty() || !distinct.last().contentEquals(embeddings[b])) distinct += embeddings[b]
            distinct.lastIndex
        }
        val inputs = mutableMapOf<String, Tensor>(
            "input_ids" to rowsOfIds(draws, owner),
            "learned" to vectors(distinct),
            "latents" to stacked(draws, ::noisy),
            "noise" to stacked(draws) { it.noise },
            "timestep" to LongTensor(intArrayOf(draws.size), LongArray(draws.size) { draws[it].timestep.toLong() }),
        )
        if ("sizes" in lossInputs) inputs["sizes"] = timeIds(draws.map { sizes[it.image] }, manifest.resolution)
        return checkNotNull(graph).run(inputs, listOf(output)).getValue(output)
    }

    private fun rowsOfIds(draws: List<Draw>, owner: IntArray): LongTensor {
        val length = firstVector.size
        val data = LongArray(draws.size * length) {
            val (b, at) = it / length to it % length
            val id = ids[draws[b].prompt][at]
            if (id >= firstVector[at]) id + owner[b].toLong() * embeddingShape[0] else id
        }
        return LongTensor(intArrayOf(draws.size, length), data)
    }

    /** The vectors of all embeddings, (U K, D). */
    private fun vectors(distinct: List<FloatArray>): FloatTensor {
        val (k, d) = embeddingShape
        val data = FloatArray(distinct.size * k * d) { distinct[it / (k * d)][it % (k * d)] * bundle.scale[it % d] }
        return FloatTensor(intArrayOf(distinct.size * k, d), data)
    }

    /** x0, a sample of the posterior. */
    private fun noisy(draw: Draw): FloatArray {
        val photo = latents[draw.image]
        return FloatArray(photo.mean.size) { photo.mean[it] + photo.std[it] * draw.latentNoise[it] }
    }

    private inline fun stacked(draws: List<Draw>, row: (Draw) -> FloatArray): FloatTensor {
        val size = latentsShape.fold(1, Int::times)
        val data = FloatArray(draws.size * size)
        draws.forEachIndexed { b, draw -> row(draw).copyInto(data, b * size) }
        return FloatTensor(intArrayOf(draws.size, *latentsShape), data)
    }

    private companion object {
        const val ZO_LOSS = "zo_loss"
    }
}

/**
 * What SDXL's denoiser receives beside the text, (N, 6): original height and width, crop top and left (0), target
 * height and width.
 */
internal fun timeIds(originals: List<IntArray>, side: Int): FloatTensor {
    val rows = originals.flatMap { (height, width) -> listOf(height, width, 0, 0, side, side) }
    return FloatTensor(intArrayOf(originals.size, 6), FloatArray(rows.size) { rows[it].toFloat() })
}
