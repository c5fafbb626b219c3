package edge.sdk.zo

import edge.sdk.testing.Golden

/** A run of trajectory.json: an objective that is a formula, and the state at its start. */
class GoldenRun(private val run: Golden) {
    val config = ZoConfig.fromJson(run["config"].map)
    private val target = run["target"].doubles
    private val start = if (run.has("start")) run["start"].floats else FloatArray(target.size)
    private val shape = intArrayOf(run["target"].list.size, run["target"].list[0].list.size)
    private val broken = if (run.has("broken_images")) run["broken_images"].ints.toSet() else emptySet()
    private val principal = if (run.has("principal")) run["principal"].list.map { it.floats } else emptyList()

    fun state() = State.start(
        config, run["seed"].seed, start, shape,
        basis = if (config.isGaussNewton) directions(principal, config.zoSamples, shape[0]) else emptyList(),
    )

    /** The steps from a state on, on a clock that counts its readings. */
    fun steps(state: State, maxBatch: Int = if (run.has("max_batch")) run["max_batch"].int else 4): Sequence<Step> {
        var readings = 0.0
        val range = if (run.has("norm_range")) {
            run["norm_range"].list.let { NormRange(it[0].doubles, it[1].doubles) }
        } else NormRange.ANY
        val parts = if (run.has("parts")) run["parts"].ints else IntArray(0)
        return run(objective, state, range, maxBatch, { readings++ }, parts)
    }

    val objective = object : Objective {
        override val numImages = run["images"].int
        override val numPrompts = run["prompts"].int
        override val numTrainTimesteps = 1000
        override val latentsShape = run["latents_shape"].ints
        override val embeddingShape = shape
        private val curvature = if (run.has("curvature")) run["curvature"].doubles else DoubleArray(0)
        private val tilt = if (run.has("tilt")) run["tilt"].double else 0.0
        private val matrix = if (run.has("matrix")) run["matrix"].list.map { it.doubles } else emptyList()
        private val bend = if (run.has("bend")) run["bend"].double else 0.0
        private val spread = listOf("spread", "noise").firstOrNull(run::has)?.let { run[it].double } ?: 0.0

        override fun losses(embeddings: List<FloatArray>, draws: List<Draw>) = DoubleArray(draws.size) { b ->
            val theta = embeddings[b]
            val noise = draws[b].noise
            val bowl = theta.indices.sumOf { curvature[it] * (theta[it] - target[it]) * (theta[it] - target[it]) } / 2
            val mean = noise.sumOf { it.toDouble() } / noise.size
            val loss = bowl + mean + tilt * noise[0] * theta.sumOf { it.toDouble() }
            if (draws[b].image in broken) Double.NaN else loss
        }

        override fun residuals(embeddings: List<FloatArray>, draws: List<Draw>) = draws.indices.map { b ->
            val gap = DoubleArray(target.size) { embeddings[b][it] - target[it] }
            DoubleArray(matrix.size) { m ->
                val value = gap.indices.sumOf { matrix[m][it] * (gap[it] + bend * gap[it] * gap[it]) }
                if (draws[b].image in broken) Double.NaN else value + spread * draws[b].noise[m]
            }
        }
    }

    private fun FloatArray.sumOf(number: (Float) -> Double) = fold(0.0) { sum, each -> sum + number(each) }
}
