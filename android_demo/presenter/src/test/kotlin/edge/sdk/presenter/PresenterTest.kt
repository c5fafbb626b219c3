package edge.sdk.presenter

import java.io.File
import kotlin.test.AfterTest
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue

class PresenterTest {
    private val phone = Phone()
    private val presenter get() = phone.presenter
    private val state get() = phone.state

    @AfterTest
    fun clean() = phone.close()

    /** Runs an action when the engine comes to a point for the first time. */
    private fun at(point: String, action: () -> Unit) {
        var isDone = false
        phone.engine.at = {
            if (it == point && !isDone) {
                isDone = true
                action()
            }
        }
    }

    private fun learnedToken(): String {
        phone.choose()
        presenter.choosing.start()
        return phone.tokenText().also {
            presenter.result.startAgain()
            presenter.choosing.setWord("")
            state.photos.indices.forEach { _ -> presenter.choosing.removePhoto(0) }
        }
    }

    @Test
    fun `photos and a word become a token with pictures and losses`() {
        phone.choose()
        assertTrue(state.canStart)
        presenter.choosing.start()
        assertEquals(Screen.RESULT, state.screen)
        assertEquals("<cup> ", phone.tokenText().take(6))
        assertEquals(0.5 to 0.1, state.result.lossBefore to state.result.lossAfter)
        assertNotNull(state.result.before)
        assertNotNull(state.result.after)
    }

    @Test
    fun `nothing starts without bundle, photos, and word`() {
        phone.choose()
        presenter.choosing.setWord("  ")
        assertFalse(state.canStart)
        presenter.choosing.setWord("cup")
        repeat(3) { presenter.choosing.removePhoto(0) }
        assertFalse(state.canStart)
        presenter.choosing.start()
        assertEquals(Screen.CHOOSING, state.screen)
    }

    @Test
    fun `unreadable photos are left out and counted`() {
        phone.choose("1", "x", "3")
        assertEquals(2, state.photos.size)
        assertEquals(Message(Key.PHOTOS_UNREADABLE, 1, 3), state.message)
        assertEquals(2, File(phone.session, "photos").list()!!.size)
    }

    @Test
    fun `more photos than are taken are said`() {
        phone.choose(*Array(25) { "$it" })
        assertEquals(ChoosingPresenter.MAX_PHOTOS, state.photos.size)
        assertEquals(Message(Key.PHOTOS_TOO_MANY, 20), state.message)
    }

    @Test
    fun `a word that the library refuses leads back with everything kept`() {
        phone.choose()
        presenter.choosing.setWord("bad")
        presenter.choosing.start()
        assertEquals(Screen.CHOOSING, state.screen)
        assertEquals(Key.WORD_REFUSED, state.message?.key)
        assertEquals(listOf<Any>("<bad>"), state.message?.arguments)
        assertEquals(3 to "bad", state.photos.size to state.word)
        assertTrue("vocabulary" in phone.log.single())
    }

    @Test
    fun `a paused run frees the model and ends at the same token`() {
        val whole = learnedToken()
        for (step in 1 until SmallEngine.STEPS) {
            phone.choose()
            at("after checkpoint $step") { presenter.learning.pause() }
            presenter.choosing.start()
            assertEquals(Phase.PAUSED to Pause.PERSON, state.learning.phase to state.learning.pause)
            assertEquals(step, state.learning.step)
            assertFalse(state.isBusy)
            assertEquals(0, phone.engine.open)
            val before = phone.engine.opened
            presenter.learning.goOn()
            assertEquals(before + 2, phone.engine.opened, "one for the rest, one for the pictures")
            assertEquals(whole, phone.tokenText())
            presenter.result.startAgain()
            repeat(3) { presenter.choosing.removePhoto(0) }
        }
    }

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
    fun `heat pauses, coolness goes on, and both are shown`() {
        val whole = learnedToken()
        phone.choose()
        at("after checkpoint 2") { presenter.learning.read(Reading(temperature = 44.0)) }
        presenter.choosing.start()
        assertEquals(Phase.PAUSED to Pause.HOT, state.learning.phase to state.learning.pause)
        assertTrue(state.isBusy && state.needsProcessor, "it waits in the background, and notices the coolness")
        presenter.learning.read(Reading(temperature = 41.0))
        assertEquals(Pause.HOT, state.learning.pause)
        presenter.learning.read(Reading(temperature = 39.0))
        assertEquals(Screen.RESULT, state.screen)
        assertEquals(whole, phone.tokenText())
    }

    @Test
    fun `a low battery pauses until the charger comes`() {
        phone.choose()
        at("after checkpoint 1") { presenter.learning.read(Reading(battery = 14)) }
        presenter.choosing.start()
        assertEquals(Pause.LOW_BATTERY, state.learning.pause)
        assertTrue(state.isBusy && !state.needsProcessor)
        presenter.learning.goOn()
        assertEquals(Pause.LOW_BATTERY, state.learning.pause, "asking does not help")
        presenter.learning.read(Reading(battery = 14, charging = true))
        assertEquals(Screen.RESULT, state.screen)
    }

    @Test
    fun `a phone that recovers before the step ends goes on at once`() {
        phone.choose()
        at("after checkpoint 1") {
            presenter.learning.read(Reading(temperature = 44.0))
            presenter.learning.read(Reading(temperature = 30.0))
        }
        presenter.choosing.start()
        assertEquals(Screen.RESULT, state.screen)
    }

    @Test
    fun `coolness does not go on with what the person has paused`() {
        phone.choose()
        at("after checkpoint 1") { presenter.learning.read(Reading(temperature = 44.0)) }
        presenter.choosing.start()
        presenter.learning.pause()
        presenter.learning.read(Reading(temperature = 30.0))
        assertEquals(Phase.PAUSED to Pause.PERSON, state.learning.phase to state.learning.pause)
    }

    @Test
    fun `a phone that is hot from the start waits`() {
        presenter.learning.read(Reading(temperature = 50.0))
        phone.choose()
        presenter.choosing.start()
        assertEquals(Phase.PAUSED to Pause.HOT, state.learning.phase to state.learning.pause)
        presenter.learning.read(Reading(temperature = 30.0))
        assertEquals(Screen.RESULT, state.screen)
    }

    @Test
    fun `finishing early keeps what was learned so far`() {
        phone.choose()
        at("after checkpoint 2") { presenter.learning.finish() }
        presenter.choosing.start()
        assertEquals(Screen.RESULT, state.screen)
        assertNull(state.result.lossAfter)
        val early = phone.tokenText()

        presenter.result.startAgain()
        at("after checkpoint 2") { presenter.learning.pause() }
        presenter.choosing.start()
        presenter.learning.finish()
        assertEquals(Screen.RESULT, state.screen)
        assertEquals(early, phone.tokenText(), "the same from a pause")
    }

    @Test
    fun `finishing before the first step leads back`() {
        phone.choose()
        at("open") { presenter.learning.finish() }
        presenter.choosing.start()
        assertEquals(Screen.CHOOSING to 3, state.screen to state.photos.size)
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
    fun `a photo that another app does not hand out is left out`() {
        presenter.appear()
        presenter.choosing.addPhotos(listOf({ "1".byteInputStream() }, { throw java.io.IOException("gone") }))
        assertEquals(1 to Message(Key.PHOTOS_UNREADABLE, 1, 2), state.photos.size to state.message)
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

    @Test
    fun `observers see every change until they leave`() {
        val seen = mutableListOf<Screen>()
        val observer = presenter.observe { seen += it.screen }
        phone.choose()
        presenter.choosing.start()
        observer.close()
        val count = seen.size
        presenter.result.startAgain()
        assertEquals(listOf(Screen.CHOOSING, Screen.LEARNING, Screen.RESULT), seen.distinct())
        assertEquals(count, seen.size)
    }
}
