package edge.sdk.zo

private const val END_FACTOR = 0.1 // what a cosine schedule ends at, as a share of the learning rate

/**
 * Adam on one small array, kept in 64 bits so that a checkpoint continues bit for bit: m <- b1 m + (1 - b1) g;
 * v <- b2 v + (1 - b2) g^2; theta <- theta - lr * m^ / (sqrt(v^) + eps), bias-corrected.
 * The twin of edge_sdk/zo/optimizer.py.
 *
 * @param size K D
 */
class Adam(private val config: ZoConfig, size: Int) {
    var m = DoubleArray(size)
        internal set
    var v = DoubleArray(size)
        internal set

    /** Updates so far. */
    var count = 0
        internal set

    /** The next token; [step] (from 0) sets the learning rate only. */
    fun update(theta: FloatArray, gradient: DoubleArray, step: Int): FloatArray {
        val b1 = config.adamBeta1
        val b2 = config.adamBeta2
        count++
        val firstBias = 1 - StrictMath.pow(b1, count.toDouble())
        val secondBias = 1 - StrictMath.pow(b2, count.toDouble())
        val rate = learningRate(config, step)
        return FloatArray(theta.size) { i ->
            val g = gradient[i]
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * (g * g)
            (theta[i] - rate * (m[i] / firstBias) / (Math.sqrt(v[i] / secondBias) + config.adamEps)).toFloat()
        }
    }
}

/** Step size of step [step] (from 0). */
fun learningRate(config: ZoConfig, step: Int): Double {
    if (config.lrSchedule == "constant") return config.learningRate
    val share = minOf(1.0, step.toDouble() / config.maxTrainSteps)
    return config.learningRate * (END_FACTOR + (1 - END_FACTOR) * 0.5 * (1 + StrictMath.cos(Math.PI * share)))
}
