package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.photos.Photo
import edge.sdk.testing.FormulaGraphs
import edge.sdk.testing.GoldenCases
import edge.sdk.testing.assertExact
import edge.sdk.zo.CheckpointException
import edge.sdk.zo.NonFiniteLossException
import edge.sdk.zo.readState
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue
import org.junit.Test

class PersonalizerTest {
    private val bundle = Bundle.open(GoldenCases.folder.resolve("bundle"))
    private val photos = List(3) { n -> Photo(12, 10, ByteArray(360) { (it * (n + 7) % 251).toByte() }) }
    private val graphs = FormulaGraphs()

    private fun options(
        resume: ByteArray? = null,
        seed: ULong = 3u,
        steps: Int? = 6,
        every: Int? = 1,
        notices: MutableList<String> = ArrayList(),
        settings: Map<String, Any?> = emptyMap(),
        numVectors: Int = 2,
        stopWhenFlat: Boolean = false,
        checkpoint: (ByteArray) -> Unit = {},
    ) = FitOptions(
        seed,
        maxTrainSteps = steps,
        stopWhenFlat = stopWhenFlat,
        numVectors = numVectors,
        checkpointingSteps = every,
        settings = settings,
        resume = resume,
        checkpoint = checkpoint,
        notify = { notices += it },
    )

    private fun fit(personalizer: Personalizer, options: FitOptions) = personalizer.fit(photos, "<mug>", "mug", options)

    @Test
    fun `a run lowers the held-out loss and leaves a token`() {
        val personalizer = Personalizer(bundle, graphs)
        val steps = fit(personalizer, options()).toList()
        assertEquals((1..6).toList(), steps.map { it.step })
        assertTrue(personalizer.lossFinal!! < 0.5 * personalizer.lossInitial!!, "${personalizer.lossFinal}")
        val embedding = personalizer.embedding()
        assertExact(steps.last().embedding, embedding.vectors)
        assertEquals("6", embedding.metadata["steps"])
        assertEquals(emptyList(), graphs.open)
    }

    @Test
    fun `progress counts up to the end of each stage`() {
        val stages = LinkedHashMap<String, MutableList<Pair<Int, Int>>>()
        val own = FitOptions(maxTrainSteps = 1, onProgress = { stage, done, total ->
            stages.getOrPut(stage) { ArrayList() } += done to total
        })
        fit(Personalizer(bundle, graphs), own).forEach { _ -> }
        val names = listOf("encoding photos", "loading the denoiser", "measuring the loss on held-out draws")
        assertEquals(names, stages.keys.toList())
        assertEquals(listOf(0 to 3, 1 to 3, 2 to 3, 3 to 3), stages.getValue("encoding photos"))
        assertEquals(32 to 32, stages.values.last().last())
    }

    @Test
    fun `nothing is opened before a step is asked for, and the VAE is closed before the loss is opened`() {
        val personalizer = Personalizer(bundle, graphs)
        val steps = fit(personalizer, options()).iterator()
        assertEquals(emptyList(), graphs.open)
        graphs.beforeCall = { assertEquals(listOf("zo_loss"), graphs.open) }
        steps.next()
        assertEquals(1, personalizer.state!!.step)
        personalizer.close()
        assertEquals(emptyList(), graphs.open)
        personalizer.close()
    }

    @Test
    fun `a run that is killed after any step goes on bit for bit`() {
        val states = ArrayList<ByteArray>()
        val whole = Personalizer(bundle, graphs)
        fit(whole, options(checkpoint = { states += it })).forEach { _ -> }
        assertEquals(6, states.size)
        for ((taken, state) in states.withIndex()) {
            val rest = Personalizer(bundle, graphs)
            assertEquals(5 - taken, fit(rest, options(resume = state)).count())
            assertExact(whole.embedding().vectors, rest.embedding().vectors)
            assertEquals(whole.lossInitial, rest.lossInitial)
            assertEquals(whole.lossFinal, rest.lossFinal)
        }
    }

    @Test
    fun `who stops asking has the state of the last whole step`() {
        val personalizer = Personalizer(bundle, graphs)
        val second = fit(personalizer, options()).take(2).last()
        assertEquals(2, readState(personalizer.checkpoint()).step)
        assertExact(second.embedding, personalizer.embedding().vectors)
        assertNotNull(personalizer.lossInitial)
        assertNull(personalizer.lossFinal)
        personalizer.close()
    }

    @Test
    fun `a graph that fails in the middle of a step loses nothing`() {
        val personalizer = Personalizer(bundle, graphs)
        val steps = fit(personalizer, options()).iterator()
        steps.next()
        val before = readState(personalizer.checkpoint())
        var left = 1
        graphs.beforeCall = { if (left-- == 0) throw EdgeSdkException("no memory") }
        assertFailsWith<EdgeSdkException> { steps.next() }
        assertEquals(1, personalizer.state!!.step)
        assertExact(before.embedding, personalizer.state!!.embedding)
        assertEquals(emptyList(), graphs.open)
    }

    @Test
    fun `checkpoints are as often as is asked for, and of the last step`() {
        fun saved(every: Int?, steps: Int) = buildList {
            val own = options(every = every, steps = steps, checkpoint = { add(readState(it).step) })
            fit(Personalizer(bundle, graphs), own).forEach { _ -> }
        }
        assertEquals(listOf(2, 4, 5), saved(2, 5))
        assertEquals(listOf(4, 8, 9), saved(null, 9))
    }

    @Test
    fun `another word, photo, seed or setting is refused when resuming`() {
        val personalizer = Personalizer(bundle, graphs)
        fit(personalizer, options()).first()
        val state = personalizer.checkpoint()
        fun resumed(word: String = "<mug>", own: List<Photo> = photos, options: FitOptions = options(resume = state)) =
            Personalizer(bundle, graphs).fit(own, word, "mug", options).first()
        assertEquals(2, resumed().step)
        assertFailsWith<CheckpointException> { resumed(word = "<cup>") }
        assertFailsWith<CheckpointException> { resumed(own = photos.reversed()) }
        assertFailsWith<EdgeSdkException> { resumed(options = options(resume = state, seed = 4u)) }
        assertFailsWith<EdgeSdkException> { resumed(options = options(resume = state, steps = 7)) }
        assertFailsWith<CheckpointException> { resumed(options = options(resume = state.copyOf(100))) }
    }

    @Test
    fun `fingerprints are those that Python gives, so that a run may go on there`() {
        val plan = Plan(bundle, photos, "<mug>", "mug", options())
        val expected = mapOf(
            "model" to bundle.manifest.modelSha256,
            "bundle" to bundle.sha256,
            "photos" to "f7180c0c8cf77adc6e51b8f7f77ea8bb4eecf27ff45ea2cec5a98d17b46f76ad",
            "token" to "<mug> from mug",
        )
        assertEquals(expected, prepare(plan, graphs).use { it.fingerprints })
    }

    @Test
    fun `a flat loss ends a run`() {
        val notices = ArrayList<String>()
        val saved = ArrayList<Int>()
        val personalizer = Personalizer(bundle, graphs)
        val own = options(null, steps = null, every = 1000, stopWhenFlat = true, notices = notices) {
            saved += readState(it).step
        }
        val steps = fit(personalizer, own).toList()
        assertEquals(120, steps[0].steps)
        // The first of the looks, every 10 steps, finds the whole gain; this problem is solved before it.
        assertEquals(20, steps.size)
        assertEquals(listOf(steps.size), saved)
        assertTrue("flat" in notices.last())
        assertNotNull(personalizer.lossFinal)
    }

    @Test
    fun `losses that are not finite end a run with the last good token saved`() {
        val saved = ArrayList<ByteArray>()
        val broken = GraphLoader { bundle, name ->
            val graph = graphs.open(bundle, name)
            object : Graph by graph {
                override fun run(inputs: Map<String, Tensor>, outputs: List<String>): Map<String, FloatTensor> {
                    val out = graph.run(inputs, outputs)
                    if ("residual" in outputs) out.getValue("residual").data[0] = Float.NaN
                    return out
                }
            }
        }
        val personalizer = Personalizer(bundle, broken)
        val own = options(every = 100, settings = mapOf("max_bad_steps" to 3L), checkpoint = { saved += it })
        assertFailsWith<NonFiniteLossException> { fit(personalizer, own).forEach { _ -> } }
        assertEquals(listOf(3), saved.map { readState(it).badSteps })
        assertExact(personalizer.initialEmbedding().vectors, personalizer.embedding().vectors)
    }

    @Test
    fun `wrong words, photos and settings are refused at once, in one line`() {
        val personalizer = Personalizer(bundle, graphs)
        val wrong = listOf(
            { personalizer.fit(photos, "two words", "mug") },
            { personalizer.fit(photos, "", "mug") },
            { personalizer.fit(photos, "mug", "mug") },
            { personalizer.fit(photos, "<mug>", "qwertyuiop") },
            { personalizer.fit(photos, "<mug>") },
            { personalizer.fit(emptyList(), "<mug>", "mug") },
            { fit(personalizer, options(steps = 0)) },
            { fit(personalizer, options(settings = mapOf("zo_mu" to 1e-9))) },
            { fit(personalizer, options(settings = mapOf("zo_nu" to 1.0))) },
            { fit(personalizer, options(settings = mapOf("timestep_range" to listOf(0L, 1001L)))) },
            { fit(personalizer, options(settings = mapOf("zo_samples" to 100L), numVectors = 1)) },
            { FitOptions(preset = "slow"); emptySequence() },
            { FitOptions(numVectors = 65); emptySequence() },
            { FitOptions(maxBatch = 0); emptySequence() },
            { FitOptions(learnableProperty = "thing"); emptySequence() },
        )
        for ((number, each) in wrong.withIndex()) {
            val error = assertFailsWith<EdgeSdkException>("case $number") { each() }
            assertTrue(error.message!!.length in 20..300 && '\n' !in error.message!!, error.message)
        }
        assertEquals(0, graphs.calls)
        assertFailsWith<EdgeSdkException> { personalizer.embedding() }
    }

    @Test
    fun `rows a call change nothing but the number of calls`() {
        val vectors = listOf(1, 5, 64).map { rows ->
            val personalizer = Personalizer(bundle, graphs)
            val own = FitOptions(maxTrainSteps = 3, numVectors = 2, maxBatch = rows)
            fit(personalizer, own).forEach { _ -> }
            personalizer.embedding().vectors
        }
        for (each in vectors) assertContentEquals(vectors[0], each)
    }
}
