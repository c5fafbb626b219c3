package edge.sdk.zo

import edge.sdk.EdgeSdkException
import edge.sdk.testing.Golden
import edge.sdk.testing.GoldenCases
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
import org.junit.Test

class ZoConfigTest {
    private val golden = GoldenCases.read("presets.json")

    private fun assertConfig(expected: Golden, actual: ZoConfig) {
        assertEquals(expected.map, actual.toJson())
        assertEquals(expected.map.keys.toList(), actual.toJson().keys.toList(), "the order of settings")
        assertEquals(actual, ZoConfig.fromJson(expected.map))
    }

    @Test
    fun `the preset paper`() = GoldenCases.one(golden["paper"]) { assertConfig(it, ZoConfig.PAPER) }

    @Test
    fun `the preset fast`() = GoldenCases.each(golden["fast"]) { case ->
        val config = ZoConfig.fast(case["vocabulary_std"].double, case["width"].int)
        assertConfig(case["config"], config)
        assertEquals(case["forwards_per_step"].int, config.forwardsPerStep)
    }

    @Test
    fun `forward passes a step`() = GoldenCases.each(golden["forwards_per_step"]) { case ->
        assertEquals(case["forwards"].int, ZoConfig.PAPER.with(case["change"].map).forwardsPerStep)
    }

    @Test
    fun `a mu below the floor is raised`() = GoldenCases.each(golden["raised_mu"]) { case ->
        val floor = if (case.has("mu_min")) case["mu_min"].double else Double.POSITIVE_INFINITY
        val config = ZoConfig.PAPER.copy(zoMu = case["zo_mu"].double)
        assertEquals(case["used"].double, raised(config, floor, case["vocabulary_std"].double).zoMu)
    }

    @Test
    fun `a floor that was not measured raises nothing`() {
        assertEquals(ZoConfig.PAPER, raised(ZoConfig.PAPER, Double.NaN, 0.03))
    }

    @Test
    fun `values out of range are refused, by name`() = GoldenCases.each(golden["refused"]) { case ->
        val name = case["name"].text
        val error = assertFailsWith<EdgeSdkException> { ZoConfig.PAPER.with(mapOf(name to case["value"].value)) }
        assertTrue(name in error.message!! && '\n' !in error.message!!, error.message)
    }

    @Test
    fun `values of another type are refused`() {
        val wrong = mapOf(
            "zo_samples" to 2.0,
            "zo_mu" to "0.1",
            "zo_normalize" to 1L,
            "optimizer" to 3L,
            "timestep_range" to listOf(1L),
            "max_bad_steps" to true,
            "memory" to null,
            "damping" to Double.NaN,
            "max_train_steps" to (1L shl 40),
        )
        for ((name, value) in wrong) {
            assertFailsWith<EdgeSdkException>(name) { ZoConfig.PAPER.with(mapOf(name to value)) }
        }
    }

    @Test
    fun `settings that an optimizer does not look at are named`() {
        val names = listOf("zo_mu", "damping", "learning_rate", "subspace_buffer")
        assertEquals(listOf("damping"), ZoConfig.PAPER.withoutEffect(names))
        assertEquals(listOf("learning_rate", "subspace_buffer"), ZoConfig.fast(0.02, 128).withoutEffect(names))
    }
}
