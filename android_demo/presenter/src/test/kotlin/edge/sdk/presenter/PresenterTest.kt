package edge.sdk.presenter

import java.io.File
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue

class PresenterTest : OnPhone() {
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
    fun `a photo that another app does not hand out is left out`() {
        presenter.appear()
        presenter.choosing.addPhotos(listOf({ "1".byteInputStream() }, { throw java.io.IOException("gone") }))
        assertEquals(1 to Message(Key.PHOTOS_UNREADABLE, 1, 2), state.photos.size to state.message)
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
