package edge.sdk.zo

import edge.sdk.testing.GoldenCases
import kotlin.test.assertEquals
import org.junit.Test

class EarlyStoppingTest {
    private val golden = GoldenCases.read("stopping.json")

    @Test
    fun `a run ends at the look at which its loss is flat`() = GoldenCases.each(golden["cases"]) { case ->
        val config = ZoConfig(zoSamples = case["forwards_per_step"].int - 1)
        assertEquals(case["forwards_per_step"].int, config.forwardsPerStep)
        val looks = case["held_out"].doubles.iterator()
        val stopping = EarlyStopping(looks::next, case["initial"].double, case["before"].double, config)
        assertEquals(case["every"].int, stopping.every)
        val end = (1..case["held_out"].list.size * stopping.every).firstOrNull { stopping.isFlat(it) }
        assertEquals(if (case.has("ends_at_look")) case["ends_at_look"].int else null, end?.div(stopping.every))
    }

    @Test
    fun `checkpoints and the longest run are as often and as long as in Python`() = GoldenCases.one(golden) { all ->
        assertEquals(all["times_the_presets_steps"].int, LONGEST)
        for (samples in listOf(2, 32, 500)) {
            val config = ZoConfig(zoSamples = samples)
            val expected = maxOf(1, all["forwards_between_checkpoints"].int / config.forwardsPerStep)
            assertEquals(expected, stepsBetweenCheckpoints(config))
        }
    }
}
