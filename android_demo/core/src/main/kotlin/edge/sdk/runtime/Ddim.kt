package edge.sdk.runtime

import kotlin.math.ceil

/**
 * DDIM sampling (Song et al., 2021), with the numbers of diffusers; the twin of edge_sdk/diffusion/ddim.py.
 *
 * z_t = a_t x0 + b_t noise, whatever the model is asked to predict of the two. For a flow a step is Euler's.
 *
 * @param a of every timestep, (T,) float32, T = [numTrainTimesteps].
 * @param b likewise.
 */
class Ddim(
    private val a: FloatArray,
    private val b: FloatArray,
    val numTrainTimesteps: Int = 1000,
    private val predictionType: String = "epsilon",
    private val timestepSpacing: String = "leading",
    private val stepsOffset: Int = 0,
    private val clipSample: Boolean = false,
    private val clipSampleRange: Double = 1.0,
    private val setAlphaToOne: Boolean = true,
) {
    /** A sampling run has at most so many steps. */
    val maxSteps get() = numTrainTimesteps - stepsOffset

    /** The timesteps of a sampling run, falling; at most [maxSteps] of them. */
    fun timesteps(steps: Int): List<Int> {
        val total = numTrainTimesteps
        return when (timestepSpacing) {
            "linspace" -> { // as numpy's linspace
                val gap = (total - 1).toDouble() / maxOf(steps - 1, 1)
                List(steps) { if (it > 0 && it == steps - 1) total - 1 else Math.rint(it * gap).toInt() }.reversed()
            }
            "trailing" -> { // as numpy's arange
                val gap = (total - total.toDouble() / steps) - total
                List(ceil(total / (total.toDouble() / steps)).toInt()) { Math.rint(total + it * gap).toInt() - 1 }
            }
            else -> List(steps) { it * (total / steps) + stepsOffset }.reversed()
        }
    }

    /** From latents of one timestep to those of the one before, without added noise (DDIM equation 12). */
    fun step(predicted: FloatArray, timestep: Int, steps: Int, latents: FloatArray): FloatArray {
        val before = timestep - numTrainTimesteps / steps
        val at = maxOf(before, 0)
        val range = clipSampleRange.toFloat()
        return FloatArray(latents.size) { i ->
            val (x0, noise) = parts(predicted[i], latents[i], a[timestep], b[timestep])
            val clipped = if (clipSample) minOf(maxOf(x0, -range), range) else x0
            if (before < 0 && setAlphaToOne) clipped else a[at] * clipped + b[at] * noise
        }
    }

    /** The two parts of z_t that a prediction stands for. */
    private fun parts(predicted: Float, z: Float, a: Float, b: Float): Pair<Float, Float> = when (predictionType) {
        "epsilon" -> (z - b * predicted) / a to predicted
        "flow" -> z - b * predicted to z + a * predicted
        else -> a * z - b * predicted to a * predicted + b * z
    }

    /**
     * From noise to latents of the same shape.
     *
     * @param predict from latents and a timestep to the model's output, guided.
     * @param goOn is asked before each step; false ends the sampling with null.
     */
    fun denoise(noise: FloatArray, steps: Int, predict: (FloatArray, Int) -> FloatArray, goOn: () -> Boolean = { true }): FloatArray? {
        val count = minOf(steps, maxSteps)
        var latents = noise
        for (t in timesteps(count)) {
            if (!goOn()) return null
            latents = step(predict(latents, t), t, count, latents)
        }
        return latents
    }

    companion object {
        /** How a bundle's model is sampled. */
        fun of(manifest: Manifest): Ddim {
            val s = manifest.scheduler
            fun table(name: String) = s.reals(name).map { it.toFloat() }.toFloatArray()
            return Ddim(
                table("a"),
                table("b"),
                s.int("num_train_timesteps"),
                manifest.predictionType,
                s.text("timestep_spacing"),
                s.int("steps_offset"),
                s.getValue("clip_sample") as Boolean,
                s.real("clip_sample_range"),
                s.getValue("set_alpha_to_one") as Boolean,
            )
        }
    }
}

/** Classifier-free guidance (Ho and Salimans, 2022): away from the negative prompt's output, towards the prompt's. */
fun guided(without: FloatArray, with: FloatArray, scale: Double): FloatArray {
    val factor = scale.toFloat()
    return FloatArray(with.size) { without[it] + factor * (with[it] - without[it]) }
}
