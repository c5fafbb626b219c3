package edge.sdk.zo

/**
 * One random choice of everything but the embedding. The same draw on both sides of a difference is what makes the
 * difference meaningful (common random numbers).
 *
 * @property image which training photo
 * @property prompt which prompt
 * @property timestep from 0, below [Objective.numTrainTimesteps]
 * @property noise the diffusion noise, (C, h, w)
 * @property latentNoise picks the sample of the VAE's posterior, (C, h, w)
 */
class Draw(
    val image: Int,
    val prompt: Int,
    val timestep: Int,
    val noise: FloatArray,
    val latentNoise: FloatArray,
)

/**
 * A model as a function from embedding and draw to a loss. Arrays are flat, in C order.
 *
 * Both functions may throw anything; the optimizer's state is then that of the last whole step.
 */
interface Objective {
    val numImages: Int
    val numPrompts: Int
    val numTrainTimesteps: Int

    /** (C, h, w). */
    val latentsShape: IntArray

    /** (K, D): vectors of the token, and their width. */
    val embeddingShape: IntArray

    /**
     * Losses of B embeddings, each of K D numbers, on B draws.
     *
     * @return B numbers; number b depends on nothing but embedding b and draw b
     */
    fun losses(embeddings: List<FloatArray>, draws: List<Draw>): DoubleArray

    /**
     * What the losses are the mean squares of: predicted minus wanted.
     *
     * @return B arrays of C h w numbers, in 64 bits: a model that computes in 32 widens them
     */
    fun residuals(embeddings: List<FloatArray>, draws: List<Draw>): List<DoubleArray>
}

/** Steps from here on are for measuring; training counts from 0 and never gets there. */
const val HELD_OUT_STEP: Long = 1L shl 31

/**
 * The draws of one step.
 *
 * Draw j takes number j of the timestep stream, numbers 2 j and 2 j + 1 of the image stream (image, prompt) and, with
 * S = C h w, numbers 2 S j to 2 S (j + 1) of the noise stream (diffusion noise, then posterior noise).
 *
 * @param timesteps uniform in LO, ..., HI - 1: the paper's partial uniform timestep sampling
 */
fun draw(objective: Objective, seed: ULong, step: Long, count: Int, timesteps: TimestepRange): List<Draw> {
    val size = objective.latentsShape.fold(1, Int::times)
    val times = Noise.integers(seed, Stream.TIMESTEP, step, count, timesteps.count.toLong())
    return List(count) { j ->
        fun integer(n: Int, start: Long) = Noise.integers(seed, Stream.IMAGE, step, 1, n.toLong(), start)[0].toInt()
        fun normals(start: Long) = Noise.normals(seed, Stream.NOISE, step, size, start)
        Draw(
            image = integer(objective.numImages, 2L * j),
            prompt = integer(objective.numPrompts, 2L * j + 1),
            timestep = timesteps.low + times[j].toInt(),
            noise = normals(2L * size * j),
            latentNoise = normals(2L * size * j + size),
        )
    }
}

/** A fixed set of draws that training never uses; images in turn, timesteps spread evenly over the range. */
fun heldOutDraws(objective: Objective, seed: ULong, count: Int, timesteps: TimestepRange): List<Draw> =
    draw(objective, seed, HELD_OUT_STEP, count, timesteps).mapIndexed { j, drawn ->
        val timestep = timesteps.low + ((2L * j + 1) * timesteps.count / (2L * count)).toInt()
        Draw(j % objective.numImages, drawn.prompt, timestep, drawn.noise, drawn.latentNoise)
    }

/** Loss of one embedding on every draw. */
fun evaluate(objective: Objective, embedding: FloatArray, draws: List<Draw>, maxBatch: Int): DoubleArray =
    evaluateRows(objective, List(draws.size) { embedding }, draws, maxBatch)

/** Loss of embedding b on draw b, in calls of at most [maxBatch] rows. */
fun evaluateRows(objective: Objective, embeddings: List<FloatArray>, draws: List<Draw>, maxBatch: Int): DoubleArray {
    val losses = DoubleArray(draws.size)
    for (first in draws.indices step maxBatch) {
        val end = minOf(first + maxBatch, draws.size)
        objective.losses(embeddings.subList(first, end), draws.subList(first, end)).copyInto(losses, first)
    }
    return losses
}

/** Residuals of embedding b on draw b, in calls of at most [maxBatch] rows. */
fun evaluateResiduals(
    objective: Objective,
    embeddings: List<FloatArray>,
    draws: List<Draw>,
    maxBatch: Int,
): List<DoubleArray> = (draws.indices step maxBatch).flatMap { first ->
    val end = minOf(first + maxBatch, draws.size)
    objective.residuals(embeddings.subList(first, end), draws.subList(first, end))
}
