package edge.sdk.runtime

import edge.sdk.testing.Golden
import edge.sdk.testing.GoldenCases
import org.junit.Test
import kotlin.math.abs
import kotlin.test.assertEquals
import kotlin.test.assertTrue

class DdimTest {
    private val golden = GoldenCases.read("ddim.json")
    private val bound = 1e-5

    private fun assertClose(wanted: FloatArray, actual: FloatArray) {
        assertEquals(wanted.size, actual.size)
        for (i in wanted.indices) assertTrue(abs(wanted[i] - actual[i]) <= bound, "value $i is ${actual[i]}, not ${wanted[i]}")
    }

    private fun sampler(case: Golden, tables: Boolean = true): Ddim {
        val isFlow = case.map["prediction_type"] == "flow"
        return Ddim(
            a = if (tables) golden[if (isFlow) "flow_a" else "a"].floats else FloatArray(0),
            b = if (tables) golden[if (isFlow) "flow_b" else "b"].floats else FloatArray(0),
            numTrainTimesteps = if (tables) golden["num_train_timesteps"].int else case["num_train_timesteps"].int,
            predictionType = case.map["prediction_type"] as String? ?: "epsilon",
            timestepSpacing = case.map["timestep_spacing"] as String? ?: "leading",
            stepsOffset = (case.map["steps_offset"] as Long? ?: 0).toInt(),
            clipSample = case.map["clip_sample"] as Boolean? ?: false,
            clipSampleRange = (case.map["clip_sample_range"] as Number? ?: 1).toDouble(),
            setAlphaToOne = case.map["set_alpha_to_one"] as Boolean? ?: true,
        )
    }

    @Test
    fun timesteps() = GoldenCases.each(golden["timesteps"]) {
        assertEquals(it["timesteps"].ints.toList(), sampler(it, tables = false).timesteps(it["steps"].int))
    }

    @Test
    fun `most steps`() = GoldenCases.each(golden["most_steps"]) {
        assertEquals(it["most"].int, sampler(it, tables = false).maxSteps)
    }

    @Test
    fun `one step`() = GoldenCases.each(golden["steps"]) {
        val latents = sampler(it).step(it["predicted"].floats, it["timestep"].int, it["steps"].int, it["latents"].floats)
        assertClose(it["before"].floats, latents)
    }

    @Test
    fun guidance() = GoldenCases.one(golden["guidance"]) {
        assertClose(it["guided"].floats, guided(it["without"].floats, it["with_prompt"].floats, it["scale"].double))
    }

    @Test
    fun loop() = GoldenCases.one(golden["loop"]) {
        val predict = { z: FloatArray, t: Int -> FloatArray(z.size) { i -> 0.3f * z[i] + t / 100f } }
        assertClose(it["latents"].floats, sampler(it).denoise(it["noise"].floats, it["steps"].int, predict)!!)
    }
}
