package edge.sdk.zo

/**
 * What one step measured.
 *
 * @property losses every loss that was measured
 * @property loss the mean loss near the embedding
 * @property forwards single-row evaluations
 */
sealed class Measurement(val losses: DoubleArray, val loss: Double, val forwards: Int)

/** A gradient, K D numbers, and what it was measured with. */
class Estimate(val gradient: DoubleArray, losses: DoubleArray, loss: Double, forwards: Int) :
    Measurement(losses, loss, forwards)

/** The n directions e_i of one step, K D standard normals each; the counter brings them back at any time. */
fun perturbations(config: ZoConfig, seed: ULong, step: Int, size: Int): List<FloatArray> {
    val all = Noise.normals(seed, Stream.PERTURBATION, step.toLong(), config.zoSamples * size)
    return List(config.zoSamples) { all.copyOfRange(it * size, (it + 1) * size) }
}

/**
 * Estimates the gradient of the expected loss at a token from forward passes alone (the paper's equation 3).
 *
 * Forward: g = 1/n sum_i [L(theta + mu e_i) - L(theta)] / mu * e_i.
 * Central: g = 1/n sum_i [L(theta + mu e_i) - L(theta - mu e_i)] / (2 mu) * e_i.
 * Both sides of a difference see the same draws. The twin of edge_sdk/zo/estimator.py.
 *
 * @param theta K D numbers; perturbed copies are computed from it, it is never changed and restored
 * @param removed how many directions the subspace projection takes away, for the optional normalization
 * @param maxBatch rows per call of the objective
 */
fun estimate(
    objective: Objective,
    theta: FloatArray,
    config: ZoConfig,
    seed: ULong,
    step: Int,
    removed: Int,
    maxBatch: Int,
): Estimate {
    val n = config.zoSamples
    val batch = config.trainBatchSize
    val mu = config.zoMu.toFloat()
    val e = perturbations(config, seed, step, theta.size)
    val shared = config.zoDraws == "shared"
    val drawn = draw(objective, seed, step.toLong(), if (shared) batch else n * batch, config.timestepRange)
    val perDirection = List(n * batch) { if (shared) drawn[it % batch] else drawn[it] } // direction by direction

    val plus = e.flatMap { direction -> theta.moved(mu, direction).let { row -> List(batch) { row } } }
    val others = when {
        config.isCentral -> e.flatMap { direction -> theta.moved(-mu, direction).let { row -> List(batch) { row } } }
        else -> List(drawn.size) { theta }
    }
    val otherDraws = if (config.isCentral) perDirection else drawn
    val rows = perDirection + otherDraws
    val losses = evaluateRows(objective, plus + others, rows, maxBatch)

    val gradient = DoubleArray(theta.size)
    for (i in 0 until n) {
        var slope = 0.0
        for (j in 0 until batch) {
            val below = (i * batch + j) % otherDraws.size // the directions share one base, or have each their own
            slope += losses[i * batch + j] - losses[n * batch + below]
        }
        slope /= batch * mu.toDouble() * (if (config.isCentral) 2 else 1)
        for (d in gradient.indices) gradient[d] += slope * e[i][d]
    }
    val divisor = n * if (config.zoNormalize) Math.sqrt((theta.size - removed + n - 1) / n.toDouble()) else 1.0
    for (d in gradient.indices) gradient[d] /= divisor

    val counted = if (config.isCentral) losses else losses.copyOfRange(n * batch, losses.size)
    return Estimate(gradient, losses, counted.average(), rows.size)
}

/** theta + mu e, in 32 bits. */
internal fun FloatArray.moved(mu: Float, direction: FloatArray): FloatArray =
    FloatArray(size) { this[it] + mu * direction[it] }
