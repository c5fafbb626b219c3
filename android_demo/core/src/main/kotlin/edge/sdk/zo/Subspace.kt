package edge.sdk.zo

private const val SWEEPS = 60 // of rotations at most; 6 to 10 are usual
private const val RANK_SHARE = 1e-10 // a singular value up to this share of the largest is rounding

/**
 * The subspace gradient (the paper's equations 4 to 8): noise where the token has hardly moved is projected out.
 *
 * Collects token values and, every [buffer] of them, renews the directions to project out. The twin of
 * edge_sdk/zo/subspace.py.
 */
class Subspace(private val buffer: Int, private val threshold: Double) {
    /** Token values since the last renewal, K D numbers each; fewer than the buffer holds. */
    var history: List<FloatArray> = emptyList()
        internal set

    /** P_nu, orthonormal rows of K D numbers; empty until the buffer was full once. */
    var removed: List<FloatArray> = emptyList()
        internal set

    /** g (I - P^T P), equation 8. */
    fun project(gradient: DoubleArray): DoubleArray {
        val out = gradient.copyOf()
        for (direction in removed) {
            var share = 0.0
            for (i in direction.indices) share += gradient[i] * direction[i]
            for (i in direction.indices) out[i] -= share * direction[i]
        }
        return out
    }

    /** Records the token after an update. */
    fun push(theta: FloatArray) {
        if (buffer == 0) return
        history = history + listOf(theta)
        if (history.size == buffer) {
            removed = lowVarianceDirections(history, threshold)
            history = emptyList()
        }
    }
}

/**
 * Directions that hold the last [threshold] (nu) share of a history's variance, orthonormal.
 *
 * The history is centred, so at most tau - 1 components mean anything; components of no variance at all are left out.
 *
 * @param history tau token values
 */
fun lowVarianceDirections(history: List<FloatArray>, threshold: Double): List<FloatArray> {
    val (singular, components) = rightSingularVectors(standardized(history)) // equation 5
    val total = singular.sumOf { it * it }
    if (total == 0.0) return emptyList()
    val rank = singular.count { it > singular[0] * RANK_SHARE }
    var kept = rank
    var variance = 0.0
    for (i in singular.indices) { // equation 6: i*
        variance += singular[i] * singular[i]
        if (variance / total > 1 - threshold) {
            kept = i + 1
            break
        }
    }
    // equation 7: the components after i*
    return (kept until rank).map { row -> FloatArray(components[row].size) { components[row][it].toFloat() } }
}

/** Equation 4: every coordinate less its mean, divided by its population deviation (1 where that is 0). */
private fun standardized(history: List<FloatArray>): Array<DoubleArray> {
    val rows = Array(history.size) { r -> DoubleArray(history[r].size) { history[r][it].toDouble() } }
    for (i in rows[0].indices) {
        val mean = rows.sumOf { it[i] } / rows.size
        for (row in rows) row[i] -= mean
        val std = Math.sqrt(rows.sumOf { it[i] * it[i] } / rows.size)
        if (std > 0) for (row in rows) row[i] /= std
    }
    return rows
}

/**
 * Singular values, largest first, and right singular vectors of a few rows, by one-sided Jacobi rotations (Hestenes):
 * rows are turned in pairs until all are orthogonal. The rows are changed.
 */
private fun rightSingularVectors(rows: Array<DoubleArray>): Pair<DoubleArray, List<DoubleArray>> {
    val negligible = rows.sumOf { dot(it, it) } * 1e-28 // far below RANK_SHARE squared: such rows would turn for ever
    for (sweep in 1..SWEEPS) {
        var turned = false
        for (p in rows.indices) for (q in p + 1 until rows.size) turned = rotate(rows[p], rows[q], negligible) || turned
        if (!turned) break
    }
    val lengths = DoubleArray(rows.size) { Math.sqrt(dot(rows[it], rows[it])) }
    val order = rows.indices.sortedByDescending { lengths[it] }
    val components = order.map { row -> DoubleArray(rows[row].size) { rows[row][it] / lengths[row] } }
    return DoubleArray(order.size) { lengths[order[it]] } to components
}

/** Turns two rows in their plane until they are orthogonal; false if they were. */
private fun rotate(x: DoubleArray, y: DoubleArray, negligible: Double): Boolean {
    val alpha = dot(x, x)
    val beta = dot(y, y)
    val gamma = dot(x, y)
    if (minOf(alpha, beta) <= negligible || Math.abs(gamma) <= 1e-15 * Math.sqrt(alpha * beta)) return false
    val zeta = (beta - alpha) / (2 * gamma)
    val t = (if (zeta < 0) -1 else 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta))
    val c = 1 / Math.sqrt(1 + t * t)
    val s = c * t
    for (i in x.indices) {
        val old = x[i]
        x[i] = c * old - s * y[i]
        y[i] = s * old + c * y[i]
    }
    return true
}

internal fun dot(x: DoubleArray, y: DoubleArray): Double {
    var sum = 0.0
    for (i in x.indices) sum += x[i] * y[i]
    return sum
}
