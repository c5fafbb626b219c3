package edge.sdk.zo

import edge.sdk.testing.Golden
import edge.sdk.testing.GoldenCases
import edge.sdk.testing.assertExact
import edge.sdk.testing.assertWithinOneUlp
import kotlin.test.assertEquals
import org.junit.Test

class DrawsTest {
    private val golden = GoldenCases.read("draws.json")

    private fun sizes(case: Golden) = object : Objective {
        override val numImages = case["images"].int
        override val numPrompts = case["prompts"].int
        override val numTrainTimesteps = 1000
        override val latentsShape = golden["latents_shape"].ints
        override val embeddingShape = intArrayOf(1, 1)

        override fun losses(embeddings: List<FloatArray>, draws: List<Draw>) = throw AssertionError("not called")

        override fun residuals(embeddings: List<FloatArray>, draws: List<Draw>) = throw AssertionError("not called")
    }

    private fun range(case: Golden) = case["timestep_range"].ints.let { TimestepRange(it[0], it[1]) }

    private fun assertDraws(expected: Golden, actual: List<Draw>) {
        assertEquals(expected.list.size, actual.size)
        for ((wanted, drawn) in expected.list.zip(actual)) {
            assertEquals(
                listOf("image", "prompt", "timestep").map { wanted[it].int },
                listOf(drawn.image, drawn.prompt, drawn.timestep),
            )
            assertWithinOneUlp(wanted["noise"].floats, drawn.noise)
            assertWithinOneUlp(wanted["latent_noise"].floats, drawn.latentNoise)
        }
    }

    @Test
    fun `draws of training steps`() = GoldenCases.each(golden["draws"]) { case ->
        val draws = draw(sizes(case), case["seed"].seed, case["step"].long, case["count"].int, range(case))
        assertDraws(case["draws"], draws)
    }

    @Test
    fun `draws that training never uses`() = GoldenCases.each(golden["held_out"]) { case ->
        assertDraws(case["draws"], heldOutDraws(sizes(case), case["seed"].seed, case["count"].int, range(case)))
    }

    @Test
    fun `directions of the zeroth-order estimate`() = GoldenCases.each(golden["perturbations"]) { case ->
        val config = ZoConfig(zoSamples = case["zo_samples"].int)
        val size = case["shape"].ints.fold(1, Int::times)
        val rows = perturbations(config, case["seed"].seed, case["step"].int, size)
        for ((expected, row) in case["values"].list.zip(rows)) assertWithinOneUlp(expected.floats, row)
        assertEquals(case["values"].list.size, rows.size)
    }

    @Test
    fun `directions of Gauss-Newton for one vector and for two`() = GoldenCases.each(golden["token_basis"]) { case ->
        val rows = directions(case["principal"].list.map { it.floats }, 2, case["num_vectors"].int)
        for ((expected, row) in case["rows"].list.zip(rows)) assertExact(expected.floats, row)
        assertEquals(case["rows"].list.size, rows.size)
    }
}
