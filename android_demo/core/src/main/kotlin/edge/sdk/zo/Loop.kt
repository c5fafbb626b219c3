package edge.sdk.zo

import edge.sdk.EdgeSdkException

/** The loss was not finite many times in a row; the state still holds the last good token. */
class NonFiniteLossException(message: String) : EdgeSdkException(message)

/** All that a run is. Changed in place, and only when a step is complete. */
class State private constructor(
    val config: ZoConfig,
    val seed: ULong,
    embedding: FloatArray,
    /** (K, D). */
    val shape: IntArray,
    /** The floor of mu that was measured before the run; NaN if none was. */
    val muMin: Double,
    basis: List<FloatArray>,
) {
    /** The master token, K D numbers. */
    var embedding: FloatArray = embedding
        internal set
    val adam = Adam(config, embedding.size)
    val subspace = Subspace(config.subspaceBuffer, config.subspaceThreshold)
    val newton = GaussNewton(config, basis)

    /** Of the tokens over the tail, K D numbers. */
    var averageSum = DoubleArray(embedding.size)
        internal set
    var averageCount = 0
        internal set

    /** Steps so far. */
    var step = 0
        internal set

    /** Single-row evaluations so far. */
    var forwards = 0L
        internal set

    /** Time of all steps. */
    var seconds = 0.0
        internal set

    /** Steps in a row whose loss was not finite. */
    var badSteps = 0
        internal set

    /** The token to use: the tail average once there is one, else the current token. A copy. */
    val result: FloatArray
        get() = when (averageCount) {
            0 -> embedding.copyOf()
            else -> FloatArray(embedding.size) { (averageSum[it] / averageCount).toFloat() }
        }

    companion object {
        /**
         * A fresh run from an initial token.
         *
         * @param embedding K D numbers
         * @param shape (K, D)
         * @param basis the directions of Gauss-Newton, K D numbers each, at least `zo_samples` of them; Adam has none
         */
        fun start(
            config: ZoConfig,
            seed: ULong,
            embedding: FloatArray,
            shape: IntArray,
            muMin: Double = Double.NaN,
            basis: List<FloatArray> = emptyList(),
        ): State {
            require(shape.size == 2 && shape[0] * shape[1] == embedding.size) {
                "an embedding of ${embedding.size} numbers has not the shape ${shape.contentToString()}"
            }
            val directions = if (config.isGaussNewton) basis else emptyList()
            if (config.isGaussNewton && (basis.size < config.zoSamples || basis.any { it.size != embedding.size })) {
                throw EdgeSdkException(
                    "gauss_newton needs ${config.zoSamples} directions or more of ${embedding.size} numbers; it has " +
                        "${basis.size}",
                )
            }
            return State(config, seed, embedding.copyOf(), shape.copyOf(), muMin, directions)
        }
    }
}

/**
 * One finished step.
 *
 * @property step from 1
 * @property steps of the whole run
 * @property loss mean over the draws of this step; NaN if the step was skipped
 * @property embedding the token to use if the run ended now, K D numbers
 * @property forwards single-row evaluations since the start of the run
 * @property seconds since the start of the run, resumed parts included
 * @property etaSeconds expected until the last step
 * @property gradNorm after the projection, or in the directions of Gauss-Newton; NaN if the step was skipped
 * @property removed directions projected out
 * @property skipped a loss was not finite: the token did not change
 * @property clamped the norm was brought back into the vocabulary's range
 */
data class Step(
    val step: Int,
    val steps: Int,
    val loss: Double,
    val embedding: FloatArray,
    val forwards: Long,
    val seconds: Double,
    val etaSeconds: Double,
    val gradNorm: Double,
    val removed: Int,
    val skipped: Boolean,
    val clamped: Boolean,
) {
    override fun equals(other: Any?) = this === other

    override fun hashCode() = step
}

/** Smallest and largest Euclidean norm of each part of a vector, or of all parts alike where there is one number. */
class NormRange(val low: DoubleArray, val high: DoubleArray) {
    companion object {
        val ANY = NormRange(doubleArrayOf(0.0), doubleArrayOf(Double.POSITIVE_INFINITY))
    }
}

/**
 * The whole method: perturb, measure, estimate, denoise, step, until `max_train_steps`. The twin of
 * edge_sdk/zo/loop.py.
 *
 * The sequence is cold: a step is taken when it is asked for. Whoever stops asking has stopped the run, and may go on
 * from [state] with the same result. It can be gone through once.
 *
 * @param normRange the vocabulary's
 * @param maxBatch rows per call of the objective
 * @param clock seconds
 * @param parts widths of the parts of a vector that each have a norm of their own; none: the vector is one
 * @throws NonFiniteLossException after `max_bad_steps` steps in a row without a finite loss
 */
fun run(
    objective: Objective,
    state: State,
    normRange: NormRange = NormRange.ANY,
    maxBatch: Int = 64,
    clock: () -> Double = { System.nanoTime() * 1e-9 },
    parts: IntArray = IntArray(0),
): Sequence<Step> = sequence {
    val config = state.config
    val pace = ArrayDeque<Double>()
    while (state.step < config.maxTrainSteps) {
        val started = clock()
        val removed = state.subspace.removed.size
        val measured = measure(objective, state, maxBatch)
        val skipped = !measured.losses.all { it.isFinite() }
        var advance = Advance(Double.NaN, clamped = false)
        if (skipped) {
            state.badSteps++
        } else {
            advance = advance(state, measured, normRange, parts)
            state.badSteps = 0
            if (state.step + 1 > config.averageFrom * config.maxTrainSteps) {
                for (i in state.averageSum.indices) state.averageSum[i] += state.embedding[i].toDouble()
                state.averageCount++
            }
        }
        state.step++
        state.forwards += measured.forwards
        val elapsed = clock() - started
        state.seconds += elapsed
        pace.addLast(elapsed)
        if (pace.size > 20) pace.removeFirst()
        yield(
            Step(
                step = state.step,
                steps = config.maxTrainSteps,
                loss = if (skipped) Double.NaN else measured.loss,
                embedding = state.result,
                forwards = state.forwards,
                seconds = state.seconds,
                etaSeconds = (config.maxTrainSteps - state.step) * median(pace),
                gradNorm = advance.gradNorm,
                removed = removed,
                skipped = skipped,
                clamped = advance.clamped,
            ),
        )
        if (state.badSteps >= config.maxBadSteps) {
            throw NonFiniteLossException(
                "the loss was not finite ${state.badSteps} steps in a row, up to step ${state.step}",
            )
        }
    }
}.constrainOnce()

private fun measure(objective: Objective, state: State, maxBatch: Int): Measurement {
    val (config, seed) = state.config to state.seed
    if (!config.isGaussNewton) {
        val removed = state.subspace.removed.size
        return estimate(objective, state.embedding, config, seed, state.step, removed, maxBatch)
    }
    val chosen = state.newton.choose().map { state.newton.basis[it] }
    return linearize(objective, state.embedding, chosen, config, seed, state.step, maxBatch)
}

/** The norm of the gradient that a step was taken on, and whether the token's norm was brought back. */
private class Advance(val gradNorm: Double, val clamped: Boolean)

private fun advance(state: State, measured: Measurement, normRange: NormRange, parts: IntArray): Advance {
    val before = state.embedding
    val gradient: DoubleArray
    val token: FloatArray
    when (measured) {
        is Linearization -> {
            gradient = measured.slope
            token = state.newton.update(before, measured)
        }
        is Estimate -> {
            gradient = state.subspace.project(measured.gradient)
            token = state.adam.update(before, gradient, state.step)
        }
    }
    val widths = if (parts.isEmpty()) intArrayOf(state.shape[1]) else parts
    val bounded = clampNorms(token, normRange, widths)
    state.embedding = bounded ?: token
    if (measured is Linearization) state.newton.carry(before, state.embedding)
    state.subspace.push(state.embedding)
    return Advance(Math.sqrt(dot(gradient, gradient)), bounded != null)
}

/** The token with every part of a vector whose norm is out of range rescaled; null if none is. */
internal fun clampNorms(token: FloatArray, range: NormRange, widths: IntArray): FloatArray? {
    val out = token.copyOf()
    var clamped = false
    var start = 0
    while (start < token.size) {
        for ((part, width) in widths.withIndex()) {
            var square = 0.0
            for (i in start until start + width) square += token[i].toDouble() * token[i]
            val norm = Math.sqrt(square)
            val wanted = minOf(maxOf(norm, bound(range.low, part)), bound(range.high, part))
            if (wanted != norm) {
                clamped = true
                val factor = wanted / maxOf(norm, 1e-12)
                for (i in start until start + width) out[i] = (token[i] * factor).toFloat()
            }
            start += width
        }
    }
    return if (clamped) out else null
}

private fun bound(bounds: DoubleArray, part: Int) = if (bounds.size == 1) bounds[0] else bounds[part]

private fun median(values: Collection<Double>): Double {
    val sorted = values.sorted()
    return (sorted[(sorted.size - 1) / 2] + sorted[sorted.size / 2]) / 2
}
