package edge.sdk.presenter

import java.io.File
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertNotNull

/** What is kept when the process is killed, a step fails, or files are gone. */
class RecoveryTest : OnPhone() {
    @Test
    fun `a run that the person has paused stays so after a restart`() {
        phone.choose()
        at("after checkpoint 2") { presenter.learning.pause() }
        presenter.choosing.start()
        phone.restart()
        presenter.appear()
        assertEquals(Phase.PAUSED to Pause.PERSON, state.learning.phase to state.learning.pause)
        assertEquals(2 to 5, state.learning.step to state.learning.steps)
    }

    @Test
    fun `the process may be killed at every point`() {
        val whole = learnedToken()
        val points = mutableListOf<String>()
        phone.choose()
        phone.engine.at = { points += it }
        presenter.choosing.start()
        assertEquals(3 + 4 * SmallEngine.STEPS + 1 + 2, points.size, "2 openings, a beginning, 4 points a step, a token, 2 pictures")
        for (point in points.distinct()) {
            phone.engine.at = {}
            presenter.result.startAgain()
            at(point) { throw Killed() }
            assertFailsWith<Killed>(point) { presenter.choosing.start() }
            phone.engine.at = {}
            phone.restart()
            assertEquals(3 to "<cup>", state.photos.size to state.word, point)
            presenter.appear()
            assertEquals(Screen.RESULT, state.screen, point)
            assertEquals(whole, phone.tokenText(), point)
            assertNotNull(state.result.before, point)
            assertNotNull(state.result.after, point)
        }
    }

    @Test
    fun `a process that is killed each time before a step is not begun for ever`() {
        phone.choose()
        phone.engine.at = { if (it == "open") throw Killed() }
        assertFailsWith<Killed> { presenter.choosing.start() }
        var starts = 1
        while (starts < 10) {
            phone.restart()
            if (runCatching { presenter.appear() }.isSuccess) break
            starts++
        }
        assertEquals(3, starts)
        assertEquals(Phase.PAUSED to Pause.FAILED, state.learning.phase to state.learning.pause)
        phone.engine.at = {}
        presenter.learning.goOn()
        assertEquals(Screen.RESULT, state.screen)
    }

    @Test
    fun `a defect of the library is a sentence and no crash`() {
        phone.choose()
        at("before checkpoint 2") { error("an index is out of range") }
        presenter.choosing.start()
        assertEquals(Pause.FAILED to Key.LEARNING_FAILED, state.learning.pause to state.message?.key)
    }

    @Test
    fun `what was chosen outlives the process`() {
        phone.addBundle("other")
        phone.choose()
        presenter.choosing.chooseBundle("other")
        presenter.choosing.setInitializer("person")
        presenter.hide()
        phone.restart()
        presenter.appear()
        assertEquals("other", state.bundle?.name)
        assertEquals(Triple(3, "cup", "person"), Triple(state.photos.size, state.word, state.initializer))
    }

    @Test
    fun `an own picture outlives the process, and one that was cut short is no harm`() {
        phone.choose()
        presenter.choosing.start()
        presenter.result.draw("no word")
        assertEquals(Message(Key.PROMPT_WITHOUT_WORD, "<cup>"), state.message)
        at("draw after") { throw Killed() }
        assertFailsWith<Killed> { presenter.result.draw("a <cup> at sea") }
        phone.restart()
        presenter.appear()
        assertEquals("a <cup> at sea" to null, state.result.prompt to state.result.own)
        presenter.result.draw("a <cup> at sea")
        phone.restart()
        presenter.appear()
        assertNotNull(state.result.own)
    }

    @Test
    fun `a failing step keeps the last checkpoint, and may be tried again`() {
        val whole = learnedToken()
        phone.choose()
        at("before checkpoint 3") { throw edge.sdk.EdgeSdkException("the graph fails") }
        presenter.choosing.start()
        assertEquals(Pause.FAILED to Key.LEARNING_FAILED, state.learning.pause to state.message?.key)
        presenter.learning.goOn()
        assertEquals(whole, phone.tokenText())
    }

    @Test
    fun `a graph that fails before the first step is the model's fault and not the word's`() {
        phone.choose()
        at("begin") { throw edge.sdk.EdgeSdkException("the graph cannot be loaded") }
        presenter.choosing.start()
        assertEquals(Pause.FAILED to Key.LEARNING_FAILED, state.learning.pause to state.message?.key)
    }

    @Test
    fun `too little memory is a sentence`() {
        phone.choose()
        at("open") { throw OutOfMemoryError() }
        presenter.choosing.start()
        assertEquals(Pause.FAILED to Key.NO_MEMORY, state.learning.pause to state.message?.key)
    }

    @Test
    fun `a state that cannot be written is a sentence, and the last one stays`() {
        phone.choose()
        val block = File(phone.session, "${PARTIAL}state.safetensors")
        at("after step 2") { block.mkdir() }
        presenter.choosing.start()
        assertEquals(Pause.FAILED to Key.SAVING_FAILED, state.learning.pause to state.message?.key)
        block.delete()
        presenter.learning.goOn()
        assertEquals(Screen.RESULT, state.screen)
    }

    @Test
    fun `a bundle that was removed or replaced is a sentence, and the run is kept`() {
        phone.choose()
        at("after checkpoint 2") { presenter.learning.pause() }
        presenter.choosing.start()
        val bundle = File(phone.bundles, "small")
        bundle.renameTo(File(phone.folder, "away"))
        presenter.learning.goOn()
        assertEquals(Message(Key.BUNDLE_MISSING, "small"), state.message)
        phone.addBundle("small", """"wider": [[1]]""")
        presenter.learning.goOn()
        assertEquals(Message(Key.BUNDLE_CHANGED, "small"), state.message)
        bundle.deleteRecursively()
        File(phone.folder, "away").renameTo(bundle)
        presenter.learning.goOn()
        assertEquals(Screen.RESULT, state.screen)
    }

    @Test
    fun `a state of another model is a sentence, and going back keeps the photos`() {
        phone.choose()
        at("after checkpoint 2") { presenter.learning.pause() }
        presenter.choosing.start()
        File(phone.session, "state.safetensors").writeText("x")
        presenter.learning.goOn()
        assertEquals(Key.STATE_REFUSED, state.message?.key)
        presenter.learning.discard()
        assertEquals(Screen.CHOOSING to 3, state.screen to state.photos.size)
    }

    @Test
    fun `an interrupted run goes on when the app is on the screen again`() {
        phone.choose()
        at("after checkpoint 2") { presenter.learning.interrupt() }
        presenter.choosing.start()
        assertEquals(Pause.INTERRUPTED, state.learning.pause)
        assertFalse(state.isBusy)
        presenter.appear()
        assertEquals(Screen.RESULT, state.screen)
    }

    @Test
    fun `a bundle that was cut after it was taken is named with its file`() {
        phone.choose()
        File(phone.bundles, "small/weights.bin").writeText("wei")
        presenter.choosing.start()
        assertEquals(Message(Key.BUNDLE_CUT, "small", "weights.bin"), state.message)
    }
}
