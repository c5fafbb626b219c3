package edge.sdk.zo

import edge.sdk.EdgeSdkException

/**
 * The directions for a token of K vectors, R K of them with K D numbers each: direction j moves vector j mod K along
 * principal direction j div K.
 *
 * @param principal R orthogonal rows of D numbers
 * @param least how many a step takes
 * @throws EdgeSdkException [least] is larger than R K
 */
fun directions(principal: List<FloatArray>, least: Int, numVectors: Int): List<FloatArray> {
    val count = numVectors * principal.size
    if (least > count) throw EdgeSdkException("zo_samples is $least; there are $count directions to choose from")
    return List(count) { j ->
        val row = principal[j / numVectors]
        FloatArray(numVectors * row.size).also { row.copyInto(it, j % numVectors * row.size) }
    }
}

/**
 * The loss of one step's draws near the token, as a quadratic of the directions' coefficients.
 *
 * @property slope n numbers
 * @property curvature n rows of n numbers
 */
class Linearization(
    val slope: DoubleArray,
    val curvature: Array<DoubleArray>,
    losses: DoubleArray,
    loss: Double,
    forwards: Int,
) : Measurement(losses, loss, forwards)

/**
 * Measures the residuals at a token and a little way along every direction: a forward difference along e_i is a column
 * J e_i of the Jacobian (Nocedal and Wright, "Numerical Optimization", section 10.3).
 *
 * @param theta K D numbers
 * @param basis n orthogonal directions of K D numbers; a perturbation is `zo_mu` times one
 */
fun linearize(
    objective: Objective,
    theta: FloatArray,
    basis: List<FloatArray>,
    config: ZoConfig,
    seed: ULong,
    step: Int,
    maxBatch: Int,
): Linearization {
    val n = basis.size
    val batch = config.trainBatchSize
    val mu = config.zoMu.toFloat()
    val slope = DoubleArray(n)
    val curvature = Array(n) { DoubleArray(n) }
    val losses = DoubleArray((n + 1) * batch) // of each draw the token itself comes first
    val rows = listOf(theta) + basis.map { theta.moved(mu, it) }
    var loss = 0.0
    for ((j, one) in draw(objective, seed, step.toLong(), batch, config.timestepRange).withIndex()) {
        val residuals = evaluateResiduals(objective, rows, List(n + 1) { one }, maxBatch) // (n + 1, M)
        for (i in 0..n) losses[j * (n + 1) + i] = dot(residuals[i], residuals[i]) / residuals[i].size
        loss += losses[j * (n + 1)] / batch
        val base = residuals[0]
        val jacobian = List(n) { i -> DoubleArray(base.size) { (residuals[i + 1][it] - base[it]) / mu.toDouble() } }
        val share = 2.0 / (base.size.toDouble() * batch)
        for (i in 0 until n) {
            slope[i] += share * dot(jacobian[i], base) // 2 mean(r J e_i)
            for (k in 0..i) curvature[i][k] += share * dot(jacobian[i], jacobian[k]) // 2 mean(J e_i J e_k)
        }
    }
    for (i in 0 until n) for (k in 0 until i) curvature[k][i] = curvature[i][k]
    return Linearization(slope, curvature, losses, loss, (n + 1) * batch)
}

/**
 * Gauss-Newton from forward passes alone: the sum of all draws' quadratic models at the current token. Later draws
 * weigh more (`memory`). The twin of edge_sdk/zo/gauss_newton.py.
 *
 * Where there are more directions than a step takes, a step is one of block coordinate descent: half of its directions
 * are those that promise the largest decrease, the others those that were not looked at for the longest time.
 *
 * @property basis orthogonal directions, K D numbers each
 */
class GaussNewton(private val config: ZoConfig, val basis: List<FloatArray>) {
    /** One number a direction. */
    var slope = DoubleArray(basis.size)
        internal set

    /** A row a direction. */
    var curvature = Array(basis.size) { DoubleArray(basis.size) }
        internal set

    /** The linearization that each direction was last in, from 1. */
    var seen = LongArray(basis.size)
        internal set

    /** Linearizations so far. */
    var count = 0
        internal set

    /** The directions of the next step, ascending; all of them where there are no more than n. */
    fun choose(): IntArray {
        val n = config.zoSamples
        var kept = emptyList<Int>()
        if (seen.all { it != 0L }) {
            val mean = curvature.indices.sumOf { curvature[it][it] } / curvature.size
            val gain = DoubleArray(basis.size) {
                slope[it] * slope[it] / maxOf(curvature[it][it] + config.damping * mean, 1e-300)
            }
            kept = gain.indices.sortedByDescending { gain[it] }.take(n / 2) // stable
        }
        val waiting = seen.indices.sortedBy { seen[it] } - kept.toSet()
        return (kept + waiting).take(n).sorted().toIntArray()
    }

    /** Takes up the linearization in the directions of [choose]; the next token. */
    fun update(theta: FloatArray, measured: Linearization): FloatArray {
        val chosen = choose()
        count++
        val weight = StrictMath.pow(count.toDouble(), config.memory)
        for ((i, row) in chosen.withIndex()) {
            slope[row] += weight * measured.slope[i]
            for ((k, column) in chosen.withIndex()) curvature[row][column] += weight * measured.curvature[i][k]
            seen[row] = count.toLong()
        }
        val damping = config.damping * chosen.sumOf { curvature[it][it] } / chosen.size
        if (!(damping > 0)) return theta // the token makes no difference to these draws
        val matrix = Array(chosen.size) { i ->
            DoubleArray(chosen.size) { k -> curvature[chosen[i]][chosen[k]] + if (i == k) damping else 0.0 }
        }
        val move = solve(matrix, DoubleArray(chosen.size) { -slope[chosen[it]] })
        val shortened = minOf(1.0, config.trustRadius / maxOf(Math.sqrt(dot(move, move)), 1e-300))
        val moved = DoubleArray(theta.size)
        for ((i, row) in chosen.withIndex()) {
            for (d in moved.indices) moved[d] += shortened * move[i] * basis[row][d]
        }
        return FloatArray(theta.size) { (theta[it] + moved[it]).toFloat() }
    }

    /** Moves the models' origin from one token to another, which differ by a combination of the directions. */
    fun carry(before: FloatArray, after: FloatArray) {
        val coefficients = DoubleArray(basis.size) { i ->
            var along = 0.0
            var square = 0.0
            for (d in after.indices) {
                along += basis[i][d] * (after[d].toDouble() - before[d])
                square += basis[i][d].toDouble() * basis[i][d]
            }
            along / square
        }
        slope = DoubleArray(slope.size) { slope[it] + dot(curvature[it], coefficients) }
    }
}

/** The solution of a system of linear equations, by elimination with pivots; the matrix is changed. */
internal fun solve(matrix: Array<DoubleArray>, right: DoubleArray): DoubleArray {
    val n = right.size
    val x = right.copyOf()
    for (column in 0 until n) {
        val pivot = (column until n).maxByOrNull { Math.abs(matrix[it][column]) }!!
        matrix[column] = matrix[pivot].also { matrix[pivot] = matrix[column] }
        x[column] = x[pivot].also { x[pivot] = x[column] }
        for (row in column + 1 until n) {
            val factor = matrix[row][column] / matrix[column][column]
            for (k in column until n) matrix[row][k] -= factor * matrix[column][k]
            x[row] -= factor * x[column]
        }
    }
    for (row in n - 1 downTo 0) {
        for (k in row + 1 until n) x[row] -= matrix[row][k] * x[k]
        x[row] /= matrix[row][row]
    }
    return x
}
