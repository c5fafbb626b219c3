package edge.sdk.presenter

import edge.sdk.photos.Photo
import java.io.File
import java.nio.file.Files
import kotlin.test.AfterTest
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertNull

class SessionStoreTest {
    private val folder = Files.createTempDirectory("session").toFile()
    private val store = SessionStore(folder)

    @AfterTest
    fun clean() {
        folder.deleteRecursively()
    }

    @Test
    fun `what was saved is loaded`() {
        val photo = store.addPhoto("1".byteInputStream())
        val session = Session(
            Stage.LEARNING, "bündel = 1", "ab", listOf(photo), "<Täßchen\n>", "mug", -3, 4, 40, 0.25, null, true, 2, "a <Täßchen\n>",
        )
        store.save(session)
        assertEquals(session, SessionStore(folder).load())
    }

    @Test
    fun `a damaged file is a new session`() {
        val file = File(folder, "session.properties")
        for (text in listOf("", "stage=NOWHERE", "stage=LEARNING\nseed=x", "\\u00zz")) {
            file.writeText(text)
            assertEquals(Session(), store.load(), text)
        }
    }

    @Test
    fun `a result without its token is none`() {
        store.save(Session(Stage.RESULT, word = "<cup>"))
        assertEquals(Stage.CHOOSING, store.load().stage)
    }

    @Test
    fun `a photo that is gone is not named`() {
        store.save(Session(photos = listOf("photo-1", store.addPhoto("2".byteInputStream()))))
        assertEquals(1, store.load().photos.size)
    }

    @Test
    fun `a write that fails leaves what was there`() {
        store.saveCheckpoint("first".toByteArray())
        File(folder, "${PARTIAL}state.safetensors").mkdir()
        assertFailsWith<java.io.IOException> { store.saveCheckpoint("second".toByteArray()) }
        assertEquals("first", String(store.checkpoint()!!))
    }

    @Test
    fun `a write that was cut short is swept away`() {
        val partial = File(folder, "${PARTIAL}state.safetensors").apply { writeText("half") }
        assertNull(SessionStore(folder).checkpoint())
        assertFalse(partial.exists())
    }

    @Test
    fun `a picture is read as it was written`() {
        store.savePicture(PictureKind.AFTER, Photo(2, 1, byteArrayOf(10, 13, -1, 0, 35, 32)))
        val picture = store.picture(PictureKind.AFTER)!!
        assertEquals(listOf<Byte>(10, 13, -1, 0, 35, 32), picture.rgb.toList())
        assertNull(photoOfPpm("P6\n2 1\n255\nabc".toByteArray()))
    }
}
