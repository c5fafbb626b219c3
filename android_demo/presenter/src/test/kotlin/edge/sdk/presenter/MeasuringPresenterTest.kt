package edge.sdk.presenter

import edge.sdk.EdgeSdkException
import edge.sdk.runtime.Json
import java.io.File
import kotlin.test.AfterTest
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertNull
import kotlin.test.assertTrue

class MeasuringPresenterTest {
    private val phone = Phone()
    private val measuring get() = phone.presenter.measuring
    private val state get() = phone.state
    private val lines = mutableListOf<String>()

    @AfterTest
    fun clean() = phone.close()

    private fun records() = phone.records.listFiles().orEmpty().toList()

    @Test
    fun `the screen writes a record of the chosen bundle and shows it`() {
        phone.choose()
        measuring.open()
        assertEquals(Screen.MEASURING, state.screen)
        measuring.start()
        val file = records().single()
        assertEquals(mapOf("bundle" to "small", "steps" to null, "threads" to null), Json.parse(file.readText()))
        assertEquals(file to Message(Key.MEASURED, file.name), state.record to state.message)
        measuring.close()
        assertEquals(Screen.CHOOSING to 3, state.screen to state.photos.size)
    }

    @Test
    fun `without a screen the line names the record`() {
        phone.addBundle("other")
        measuring.start("other", steps = 4, threads = 2) { lines += it }
        assertEquals("record: ${records().single()}", lines.single())
        assertEquals(mapOf("bundle" to "other", "steps" to 4L, "threads" to 2L), Json.parse(records().single().readText()))
    }

    @Test
    fun `a bundle that a computer has pushed is copied in first`() {
        val outside = phone.addBundle("pushed")
        outside.renameTo(File(phone.folder, "pushed"))
        phone.pushed += FolderSource(File(phone.folder, "pushed"))
        measuring.start("pushed") { lines += it }
        assertTrue(lines.single().startsWith("record: "), lines.single())
        assertEquals(listOf("pushed", "small"), phone.bundles.list()!!.sorted())
    }

    @Test
    fun `what is wrong is one line and one sentence, and no record`() {
        measuring.start("nowhere") { lines += it }
        assertEquals(Message(Key.BUNDLE_MISSING, "nowhere"), state.message)
        phone.measurer = Measurer { _, _, _, _ -> throw EdgeSdkException("the graph fails") }
        phone.restart()
        measuring.start { lines += it }
        assertEquals(Key.MEASURING_FAILED, state.message?.key)
        assertEquals(2, lines.size)
        assertEquals(emptyList(), records())
        assertNull(state.work)
    }

    @Test
    fun `cancelling writes no record`() {
        phone.measurer = Measurer { _, _, _, onStep ->
            phone.presenter.cancel()
            if (onStep(1)) emptyMap() else null
        }
        phone.restart()
        measuring.start { lines += it }
        assertEquals(emptyList(), records())
        assertEquals("measuring was ended; no record is written", lines.single())
    }

    @Test
    fun `nothing is measured while the app learns or shows a result`() {
        phone.choose()
        phone.engine.at = { if (it == "after checkpoint 1") measuring.start { line -> lines += line } }
        phone.presenter.choosing.start()
        measuring.start { lines += it }
        measuring.open()
        assertEquals(Screen.RESULT, state.screen)
        assertEquals(2, lines.size)
        assertEquals(emptyList(), records())
    }
}
