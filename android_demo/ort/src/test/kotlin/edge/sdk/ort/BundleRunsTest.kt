package edge.sdk.ort

import edge.sdk.photos.Photo
import edge.sdk.runtime.Bundle
import edge.sdk.runtime.FitOptions
import edge.sdk.runtime.Personalizer
import edge.sdk.runtime.encode
import edge.sdk.testing.Golden
import edge.sdk.testing.GoldenCases
import edge.sdk.testing.assertClose
import edge.sdk.testing.assertExact
import edge.sdk.zo.Step
import kotlin.math.abs
import kotlin.test.assertEquals
import kotlin.test.assertTrue
import org.junit.Test

/** Whole runs on the golden bundle, in ONNX Runtime, against Python's. */
class BundleRunsTest {
    private val golden = GoldenCases.read("bundle_runs.json")
    private val bundle = Bundle.open(GoldenCases.folder.resolve(golden["bundle"].text))
    private val loader = OrtLoader()
    private val photos = golden["photos"].list.map { it.text }.map { name ->
        val photo = GoldenCases.read("photos.json")["photos"].list.single { it["file"].text == name }
        val (width, height) = photo["size"].ints.toList()
        Photo(width, height, photo["rgb"].text.chunked(2).map { it.toInt(16).toByte() }.toByteArray())
    }

    private fun options(case: Golden, resume: ByteArray? = null, checkpoint: (ByteArray) -> Unit = {}) = FitOptions(
        seed = case["seed"].seed,
        preset = case["preset"].text,
        numVectors = case["num_vectors"].int,
        settings = case["change"].map,
        checkpointingSteps = 1,
        resume = resume,
        checkpoint = checkpoint,
    )

    private fun fit(personalizer: Personalizer, options: FitOptions): Sequence<Step> =
        personalizer.fit(photos, golden["placeholder_token"].text, golden["initializer_token"].text, options)

    private fun assertRelative(expected: Double, actual: Double) =
        assertTrue(abs(expected - actual) <= 1e-3 * abs(expected), "$actual is not $expected")

    @Test
    fun `latents are Python's`() {
        val latents = encode(bundle, loader, photos.map { it.resized(bundle.manifest.resolution).pixels() })
        assertEquals(golden["latents"].list.size, latents.size)
        for ((case, photo) in golden["latents"].list.zip(latents)) {
            GoldenCases.one(case) {
                assertClose(case["mean"].floats, photo.mean, 1e-5)
                assertClose(case["std"].floats, photo.std, 1e-5)
            }
        }
    }

    @Test
    fun `runs are Python's`() = GoldenCases.each(golden["runs"]) { case ->
        val personalizer = Personalizer(bundle, loader)
        val steps = fit(personalizer, options(case)).toList()
        val initial = personalizer.initialEmbedding().vectors
        assertExact(case["initial"].floats, initial)
        assertRelative(case["held_out_loss_before"].double, personalizer.lossInitial!!)
        assertEquals(case["steps"].list.size, steps.size)
        for ((wanted, step) in case["steps"].list.zip(steps)) {
            assertRelative(wanted["loss"].double, step.loss)
            assertEquals(wanted["clamped"].flag, step.clamped)
            assertEquals(wanted["forwards"].long, step.forwards)
        }
        assertRelative(case["held_out_loss_after"].double, personalizer.lossFinal!!)
        val expected = case["vectors"].floats
        val moved = expected.indices.maxOf { abs(expected[it] - initial[it]) }
        assertClose(expected, personalizer.embedding().vectors, 0.01 * moved)
    }

    @Test
    fun `a run that is killed after any step goes on bit for bit`() {
        val case = golden["runs"].list[1]
        val states = ArrayList<ByteArray>()
        val whole = Personalizer(bundle, loader)
        fit(whole, options(case) { states += it }).forEach { _ -> }
        for (state in states) {
            val rest = Personalizer(bundle, loader)
            fit(rest, options(case, resume = state)).forEach { _ -> }
            assertExact(whole.embedding().vectors, rest.embedding().vectors)
            assertEquals(whole.lossFinal, rest.lossFinal)
        }
    }
}
