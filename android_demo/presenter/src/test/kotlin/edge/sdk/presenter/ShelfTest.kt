package edge.sdk.presenter

import edge.sdk.EdgeSdkException
import edge.sdk.runtime.Bundle
import edge.sdk.testing.GoldenCases
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.FilterInputStream
import java.io.IOException
import java.io.InputStream
import java.nio.file.Files
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import kotlin.test.AfterTest
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertNull
import kotlin.test.assertTrue

/** On the bundle of the golden files. */
class ShelfTest {
    private val original = GoldenCases.folder.resolve("bundle")
    private val folder = Files.createTempDirectory("shelf").toFile()
    private val shelf = shelf()

    @AfterTest
    fun clean() {
        folder.deleteRecursively()
    }

    private fun shelf(free: () -> Long = { Long.MAX_VALUE }) = Shelf(folder, { Bundle.open(it) }, free)

    private fun leftBehind() = folder.list()!!.toList()

    private fun zip(prefix: String = "", change: (String, ByteArray) -> ByteArray? = { _, bytes -> bytes }): ByteArray {
        val out = ByteArrayOutputStream()
        ZipOutputStream(out).use { zip ->
            zip.setLevel(0)
            FolderSource(original).forEach { path, bytes ->
                change(path, bytes.readBytes())?.let {
                    zip.putNextEntry(ZipEntry(prefix + path))
                    zip.write(it)
                }
            }
        }
        return out.toByteArray()
    }

    private fun source(bytes: ByteArray, name: String = "pocket.zip") = ZipSource(name) { ByteArrayInputStream(bytes) }

    private fun refusal(source: Source, shelf: Shelf = this.shelf): Message {
        val message = assertFailsWith<Problem> { shelf.take(source) }.said
        assertEquals(emptyList(), leftBehind(), "nothing is left")
        assertEquals(message.key.arguments, message.arguments.size)
        return message
    }

    @Test
    fun `a folder is taken whole`() {
        var copied = 0L
        val info = shelf.take(FolderSource(original), { copied = it })!!
        assertEquals(original.name, info.name)
        assertEquals(original.walk().filter(File::isFile).sumOf(File::length), copied)
        assertEquals(listOf(info), shelf.list())
        assertTrue("mug" in info.initializers)
        Bundle.open(shelf.folderOf(info.name))
    }

    @Test
    fun `an archive is taken with and without its outer folder, and names do not clash`() {
        assertEquals("pocket", shelf.take(source(zip()))!!.name)
        assertEquals("pocket-2", shelf.take(source(zip("some/")))!!.name)
        assertEquals(2, shelf.list().size)
    }

    @Test
    fun `what is no bundle is refused`() {
        assertEquals(Key.BUNDLE_WITHOUT_MANIFEST, refusal(source(zip { path, bytes -> bytes.takeIf { path != "manifest.json" } })).key)
        assertEquals(Key.SOURCE_UNREADABLE, refusal(source("no archive".toByteArray())).key)
        assertEquals(Key.SOURCE_UNREADABLE, refusal(FolderSource(File(folder, "nowhere"))).key)
    }

    @Test
    fun `a cut file is named`() {
        val short = source(zip { path, bytes -> if (path == "weights.bin") bytes.copyOf(bytes.size / 2) else bytes })
        assertEquals(Message(Key.BUNDLE_CUT, "pocket", "weights.bin"), refusal(short))
        val gone = source(zip { path, bytes -> bytes.takeIf { path != "zo_loss.onnx" } })
        assertEquals(Message(Key.BUNDLE_CUT, "pocket", "zo_loss.onnx"), refusal(gone))
    }

    @Test
    fun `a cut archive is unreadable`() {
        val bytes = zip()
        for (part in listOf(1, 2, 3)) assertEquals(Key.SOURCE_UNREADABLE, refusal(source(bytes.copyOf(bytes.size * part / 4))).key)
    }

    @Test
    fun `a changed byte is refused`() {
        val changed = source(zip { path, bytes -> bytes.also { if (path == "weights.bin") it[99]++ } })
        assertEquals(Key.BUNDLE_REFUSED, refusal(changed).key)
    }

    @Test
    fun `another version, another runtime, another width are told apart`() {
        fun edited(from: String, to: String) = source(
            zip { path, bytes -> if (path == "manifest.json") String(bytes).replaceFirst(from, to).toByteArray() else bytes },
        )
        assertEquals(Key.BUNDLE_OTHER_VERSION, refusal(edited("\"schema_version\": 3", "\"schema_version\": 2")).key)
        assertEquals(Key.BUNDLE_OTHER_RUNTIME, refusal(edited("\"onnx\"", "\"coreml\"")).key)
        assertEquals(Key.BUNDLE_REFUSED, refusal(edited("\"width\": ", "\"width\": 9")).key)
        assertEquals(Key.BUNDLE_REFUSED, refusal(edited("{", "")).key)
    }

    @Test
    fun `a path that leads out of the archive writes nothing there`() {
        for (path in listOf("../evil", "a/../../evil")) {
            val bytes = ByteArrayOutputStream()
            ZipOutputStream(bytes).use {
                it.putNextEntry(ZipEntry(path))
                it.write(1)
            }
            assertEquals(Key.BUNDLE_REFUSED, refusal(source(bytes.toByteArray())).key)
        }
    }

    @Test
    fun `a full phone is told with what is free`() {
        var left = 55_000_000L
        val filling = shelf { left.also { left -= 1_000_000 } }
        assertEquals(Key.NO_SPACE, refusal(FolderSource(original), filling).key)
    }

    @Test
    fun `cancelling leaves nothing`() {
        var bytes = 0L
        assertNull(shelf.take(FolderSource(original), { bytes = it }, { bytes > 100_000 }))
        assertEquals(emptyList(), leftBehind())
    }

    @Test
    fun `a process that is killed while copying leaves nothing that is listed, and the next start sweeps`() {
        var count = 0
        val killing = object : Source {
            override val name = "pocket"

            override fun forEach(take: (String, InputStream) -> Unit) = FolderSource(original).forEach { path, bytes ->
                if (++count == 3) throw Killed()
                take(path, bytes)
            }
        }
        assertFailsWith<Killed> { shelf.take(killing) }
        File(folder, "${PARTIAL}1").mkdir() // a killed process does not even run its finally blocks
        assertEquals(emptyList(), shelf.list())
        shelf()
        assertEquals(emptyList(), leftBehind())
    }

    @Test
    fun `a source that breaks while it is read is unreadable`() {
        val breaking = object : Source {
            override val name = "pocket"

            override fun forEach(take: (String, InputStream) -> Unit) = FolderSource(original).forEach { path, bytes ->
                take(path, object : FilterInputStream(bytes) {
                    override fun read(buffer: ByteArray): Int = throw IOException("the card was pulled out")
                })
            }
        }
        val message = refusal(breaking)
        assertEquals(Key.SOURCE_UNREADABLE to "the card was pulled out", message.key to message.detail)
    }

    @Test
    fun `a folder that is no bundle is not listed`() {
        File(folder, "empty").mkdir()
        File(folder, "odd").mkdir()
        File(folder, "odd/manifest.json").writeText("[1]")
        assertEquals(emptyList(), shelf.list())
        assertFailsWith<EdgeSdkException> { Bundle.open(File(folder, "odd")) }
    }

    @Test
    fun `a removed bundle is gone`() {
        val name = shelf.take(FolderSource(original))!!.name
        shelf.remove(name)
        assertEquals(emptyList(), leftBehind())
    }
}
