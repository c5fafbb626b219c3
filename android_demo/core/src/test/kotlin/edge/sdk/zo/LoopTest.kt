package edge.sdk.zo

import edge.sdk.testing.Golden
import edge.sdk.testing.GoldenCases
import edge.sdk.testing.assertClose
import edge.sdk.testing.assertExact
import kotlin.math.abs
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
import org.junit.Test

class LoopTest {
    private val golden = GoldenCases.read("trajectory.json")
    private val runs = golden["runs"].list

    private fun assertRelative(expected: Double, actual: Double, bound: Double = 1e-5, least: Double = 1e-3) =
        assertTrue(
            expected.isNaN() && actual.isNaN() || abs(expected - actual) <= bound * maxOf(abs(expected), least),
            "$actual is not $expected",
        )

    private fun assertSteps(expected: List<Golden>, run: GoldenRun, state: State, steps: Iterator<Step>) {
        for ((number, wanted) in expected.withIndex()) {
            if (wanted.has("chosen")) assertContentEquals(wanted["chosen"].ints, state.newton.choose())
            val step = steps.next()
            assertEquals(number + 1, step.step)
            assertClose(wanted["token"].floats, state.embedding, 1e-5)
            assertRelative(wanted["loss"].double, step.loss)
            // One last bit of a token, over mu, is 1e-4; it turns removed directions of small variance by up to 1e-3.
            assertRelative(wanted["grad_norm"].double, step.gradNorm, 1e-3, least = 1.0)
            assertEquals(wanted["forwards"].long, step.forwards)
            assertEquals(wanted["removed"].int, step.removed)
            assertEquals(wanted["skipped"].flag, step.skipped)
            assertEquals(wanted["clamped"].flag, step.clamped)
            assertEquals(run.config.maxTrainSteps, step.steps)
            assertEquals(number + 1.0, step.seconds)
            assertEquals((step.steps - step.step).toDouble(), step.etaSeconds)
        }
    }

    @Test
    fun `runs with every setting go as Python's`() = GoldenCases.each(golden["runs"]) { case ->
        val run = GoldenRun(case)
        val state = run.state()
        val steps = run.steps(state).iterator()
        assertSteps(case["steps"].list, run, state, steps)
        when {
            case.has("ends") -> assertFailsWith<NonFiniteLossException> { steps.hasNext() }
            else -> assertTrue(!steps.hasNext())
        }
        assertClose(case["result"].floats, state.result, 1e-5)
    }

    @Test
    fun `the first run of a quadratic goes as Python's`() = GoldenCases.one(golden) { case ->
        val run = GoldenRun(case)
        val tokens = run.steps(run.state()).map { it.embedding }.toList()
        assertEquals(case["tokens"].list.size, tokens.size)
        for ((expected, token) in case["tokens"].list.zip(tokens)) assertClose(expected.floats, token, 1e-5)
    }

    @Test
    fun `the first runs of Gauss-Newton go as Python's`() = GoldenCases.each(golden["gauss_newton"]["runs"]) { case ->
        val run = GoldenRun(case)
        val state = run.state()
        val steps = run.steps(state).iterator()
        for (i in case["tokens"].list.indices) {
            val step = steps.next()
            assertClose(case["tokens"].list[i].floats, state.embedding, 1e-5)
            assertRelative(case["losses"].list[i].double, step.loss)
            assertEquals(case["clamped"].list[i].flag, step.clamped)
        }
        assertTrue(!steps.hasNext())
        assertClose(case["result"].floats, state.result, 1e-5)
    }

    @Test
    fun `rows a call change nothing`() {
        for (case in runs) {
            val run = GoldenRun(case)
            val results = listOf(1, 2, 64).map { rows -> run.state().also { finish(run.steps(it, rows)) }.result }
            for (result in results) assertExact(results[0], result)
        }
    }

    @Test
    fun `a step is taken only when it is asked for`() {
        val run = GoldenRun(runs[0])
        val state = run.state()
        val steps = run.steps(state).iterator()
        assertEquals(0, state.step)
        steps.next()
        assertEquals(1, state.step)
    }

    @Test
    fun `an objective that throws leaves the state of the last whole step`() {
        for (case in listOf(runs[3], runs[11])) {
            val run = GoldenRun(case)
            val expected = run.state().also { finish(run.steps(it)) }
            val state = run.state()
            var calls = 0
            while (state.step < run.config.maxTrainSteps) {
                val before = stateBytes(state, emptyMap(), SALT)
                val failing = object : Objective by run.objective {
                    override fun losses(embeddings: List<FloatArray>, draws: List<Draw>) = fail()

                    override fun residuals(embeddings: List<FloatArray>, draws: List<Draw>) = fail()

                    private fun fail(): Nothing = error("call ${calls++}")
                }
                assertFailsWith<IllegalStateException> { run(failing, state).first() }
                assertContentEquals(before, stateBytes(state, emptyMap(), SALT))
                run.steps(state).first()
            }
            assertExact(expected.result, state.result)
        }
    }

    private fun finish(steps: Sequence<Step>) {
        try {
            steps.forEach { _ -> }
        } catch (_: NonFiniteLossException) {
        }
    }
}

const val SALT = "00112233445566778899aabbccddeeff"
