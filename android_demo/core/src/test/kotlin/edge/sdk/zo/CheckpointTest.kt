package edge.sdk.zo

import edge.sdk.testing.Golden
import edge.sdk.testing.GoldenCases
import edge.sdk.testing.assertClose
import edge.sdk.testing.assertExact
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
import org.junit.Test

class CheckpointTest {
    private val golden = GoldenCases.read("checkpoint.json")
    private val runs = GoldenCases.read("trajectory.json")["runs"].list
    private val fingerprints = golden["fingerprints"].map.mapValues { it.value as String }
    private val salt = golden["salt"].text

    private fun runOf(case: Golden) = runs.single { it["name"].text == case["run"].text }

    @Test
    fun `a state that Python wrote comes back byte for byte`() = GoldenCases.each(golden["states"]) { case ->
        val bytes = GoldenCases.bytes(case["file"].text)
        assertContentEquals(bytes, stateBytes(readState(bytes, fingerprints), fingerprints, salt))
    }

    @Test
    fun `a run goes on from a state that Python wrote`() = GoldenCases.each(golden["states"]) { case ->
        val state = readState(GoldenCases.bytes(case["file"].text), fingerprints)
        val (expected, run) = runOf(case).let { it to GoldenRun(it) }
        assertEquals(case["steps"].int, state.step)
        val steps = run.steps(state).toList()
        for ((wanted, step) in expected["steps"].list.drop(case["steps"].int).zip(steps)) {
            assertEquals(wanted["forwards"].long, step.forwards)
        }
        assertClose(expected["steps"].list.last()["token"].floats, state.embedding, 1e-5)
        assertClose(expected["result"].floats, state.result, 1e-5)
    }

    @Test
    fun `a run that is killed after any step goes on bit for bit`() {
        for (case in runs) {
            val run = GoldenRun(case)
            val whole = run.state()
            val killed = arrayListOf(stateBytes(whole, fingerprints, salt))
            finish(run.steps(whole)) { killed += stateBytes(whole, fingerprints, salt) }
            val last = killed.last()
            for ((step, bytes) in killed.withIndex()) {
                val state = readState(bytes, fingerprints)
                assertContentEquals(bytes, stateBytes(state, fingerprints, salt), "${case.place}, step $step")
                if (state.badSteps >= run.config.maxBadSteps) continue // it has given up
                finish(run.steps(state)) {}
                assertContentEquals(last, stateBytes(state, fingerprints, salt), "${case.place}, on from step $step")
                assertExact(whole.result, state.result)
            }
        }
    }

    @Test
    fun `a damaged file is refused`() {
        for (file in golden["states"].list.map { it["file"].text }) {
            GoldenCases.each(golden["damaged"]) { case ->
                val bytes = damage(GoldenCases.bytes(file), case)
                val error = assertFailsWith<CheckpointException> { readState(bytes, fingerprints, "state") }
                assertTrue(error.message!!.startsWith("state ") && '\n' !in error.message!!, error.message)
            }
        }
    }

    @Test
    fun `a file that is cut anywhere is refused`() {
        val bytes = GoldenCases.bytes("state_gauss_newton.safetensors")
        for (size in bytes.indices) assertFailsWith<CheckpointException> { readState(bytes.copyOf(size), fingerprints) }
    }

    @Test
    fun `any letter of the header may be another one, and nothing but a refusal comes of it`() {
        val bytes = GoldenCases.bytes("state_adam.safetensors")
        val header = bytes[0].toUByte().toInt() + 256 * bytes[1].toUByte().toInt()
        for (at in 0 until 8 + header) for (letter in "0\"{") {
            val edited = bytes.copyOf().also { it[at] = letter.code.toByte() }
            try {
                readState(edited, fingerprints)
            } catch (_: CheckpointException) {
            }
        }
    }

    @Test
    fun `another photo, model or word is refused by name`() {
        val bytes = GoldenCases.bytes("state_adam.safetensors")
        for (name in fingerprints.keys) {
            val error = assertFailsWith<CheckpointException> { readState(bytes, fingerprints + (name to "other")) }
            assertTrue("another $name" in error.message!!, error.message)
        }
    }

    @Test
    fun `two writings of one state share no hash`() {
        val state = readState(GoldenCases.bytes("state_adam.safetensors"), fingerprints)
        val texts = List(2) { String(stateBytes(state, fingerprints), Charsets.ISO_8859_1) }
        assertTrue(texts[0] != texts[1])
        assertTrue(fingerprints.values.none { it in texts[0] })
    }

    private fun damage(bytes: ByteArray, case: Golden): ByteArray = when {
        case.has("cut_to") -> bytes.copyOf(case["cut_to"].int)
        case.has("append_hex") -> bytes + hex(case["append_hex"].text)
        case.has("first_bytes_hex") -> hex(case["first_bytes_hex"].text).let { it + bytes.drop(it.size) }
        case.has("last_bytes_hex") -> hex(case["last_bytes_hex"].text).let { bytes.copyOf(bytes.size - it.size) + it }
        else -> {
            val (old, new) = case["replace"].list.map { it.text }
            val text = String(bytes, Charsets.ISO_8859_1)
            assertTrue(old in text, "there is nothing to replace")
            text.replaceFirst(old, new).toByteArray(Charsets.ISO_8859_1)
        }
    }

    private fun hex(text: String) = ByteArray(text.length / 2) { text.substring(2 * it, 2 * it + 2).toInt(16).toByte() }

    private fun finish(steps: Sequence<Step>, each: () -> Unit) {
        try {
            steps.forEach { _ -> each() }
        } catch (_: NonFiniteLossException) {
        }
    }
}
