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
