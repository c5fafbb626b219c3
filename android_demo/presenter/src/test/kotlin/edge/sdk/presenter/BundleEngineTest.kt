package edge.sdk.presenter

import edge.sdk.EdgeSdkException
import edge.sdk.photos.Photo
import edge.sdk.testing.FormulaGraphs
import edge.sdk.testing.GoldenCases
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertNotNull

/** The real library on the golden bundle, with formulas for graphs. */
class BundleEngineTest {
    private val graphs = FormulaGraphs()
    private val engine = BundleEngine(graphs)
    private val photos = List(3) { i -> Photo(9, 8, ByteArray(3 * 9 * 8) { (60 * i + it).toByte() }) }
    private var checkpoint: ByteArray? = null

    private fun task(word: String = "<cup>") = Task(photos, word, "mug", -5, checkpoint) { checkpoint = it }

    private fun open() = engine.open(GoldenCases.folder.resolve("bundle"))

    @Test
    fun `a run that is killed at any call ends at the same token`() {
        val whole = open().use { model ->
            assertEquals((1..40).toList(), model.learn(task()).map { it.step }.toList())
            assertNotNull(model.heldOutLoss().after)
            model.token()
        }
        val calls = graphs.calls
        for (call in listOf(1, calls / 7, calls / 3, calls - 5, calls - 1)) {
            checkpoint = null
            var left = call
            graphs.beforeCall = { if (left-- == 0) throw Killed() }
            assertFailsWith<Killed> { open().use { model -> model.learn(task()).forEach { _ -> } } }
            graphs.beforeCall = {}
            val token = open().use { model ->
                model.learn(task()).forEach { _ -> }
                model.token()
            }
            assertContentEquals(whole, token, "killed at call $call of $calls")
        }
        assertEquals(emptyList(), graphs.open)
    }

    @Test
    fun `a finished run that is opened again has its token, and takes no step`() {
        val whole = open().use { model ->
            model.learn(task()).forEach { _ -> }
            model.token()
        }
        open().use { model ->
            assertEquals(0, model.learn(task()).count())
            assertContentEquals(whole, model.token())
        }
    }

    @Test
    fun `a run that is left early closes its graphs`() {
        open().use { model -> model.learn(task()).first() }
        assertEquals(emptyList(), graphs.open)
    }

    @Test
    fun `a word of the vocabulary is refused before any graph is open`() {
        open().use { model -> assertFailsWith<EdgeSdkException> { model.learn(task("mug")) } }
        assertEquals(emptyList(), graphs.open)
    }
}
