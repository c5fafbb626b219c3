package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.testing.Golden
import edge.sdk.testing.GoldenCases
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import java.nio.file.Files
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

class BundleTest {
    @get:Rule
    val temporary = TemporaryFolder()
    private val golden = GoldenCases.folder.resolve("bundle")
    private val damaged = GoldenCases.read("damaged.json")

    /** By which words an error of each class is known. */
    private val words = mapOf(
        "an unsafe path" to "names the path",
        "an unlisted file" to "list",
        "a wrong size" to "bytes and manifest.json says",
        "a wrong hash" to "sha256 differs",
        "an unknown schema version" to "has schema version",
        "an unknown value" to "not one of",
        "a missing entry" to "is missing",
        "a wrong type" to ", not a",
        "an absurd number" to "",
        "an entry of another format" to "for the format coreml only",
        "a key given twice" to "given twice",
        "not JSON" to "as JSON",
        "a missing file" to "is missing, which",
        "a link" to "is a link to a folder",
    )

    @Test
    fun `the golden bundle opens`() {
        val bundle = Bundle.open(golden)
        assertEquals(listOf(32), bundle.widths.toList())
        assertEquals(emptyList(), bundle.leftovers)
        assertEquals(32, bundle.principalDirections(100).size)
        assertEquals(40, bundle.manifest.presets.getValue("fast").maxTrainSteps)
    }

    @Test
    fun `a damaged manifest is refused`() = GoldenCases.each(damaged["manifest"]) { case ->
        val folder = copy()
        val (old, new) = case["replace"].list.map { it.text }
        edit(folder, old, new)
        refuses(folder, case)
    }

    @Test
    fun `damaged files are refused`() = GoldenCases.each(damaged["files"]) { case ->
        val folder = copy()
        val file = folder.resolve(case["file"].text)
        when (case["action"].text) {
            "remove" -> file.delete()
            "add" -> file.writeBytes(ByteArray(0))
            "cut" -> file.writeBytes(file.readBytes().let { it.copyOf(it.size - 1) })
            "flip" -> file.writeBytes(file.readBytes().also { it[it.size - 1] = (it.last().toInt() xor 1).toByte() })
            "link" -> {
                val elsewhere = temporary.newFolder().resolve("moved")
                file.renameTo(elsewhere)
                Files.createSymbolicLink(file.toPath(), elsewhere.toPath())
            }
        }
        refuses(folder, case)
    }

    @Test
    fun `a missing folder, and a manifest that is a folder, are one line`() {
        val folder = temporary.newFolder()
        for (where in listOf(folder, folder.resolve("nowhere"), folder.also { it.resolve("manifest.json").mkdir() }))
            assertOneLine(assertFailsWith<EdgeSdkException> { Bundle.open(where) })
    }

    @Test
    fun `what desktops leave is named and not opened`() {
        val folder = copy()
        folder.resolve(".DS_Store").writeText("x")
        folder.resolve(".git/objects").mkdirs()
        folder.resolve(".git/objects/pack.bin").writeText("x")
        folder.resolve("README.md").writeText("x")
        assertEquals(listOf(".DS_Store", ".git", "README.md"), Bundle.open(folder).leftovers)
        folder.resolve("more.onnx").writeText("x")
        assertFailsWith<EdgeSdkException> { Bundle.open(folder) }
    }

    @Test
    fun `a file may be a link to a file`() {
        val folder = copy()
        val file = folder.resolve("weights.bin")
        val blob = temporary.newFolder().resolve("blob")
        file.renameTo(blob)
        Files.createSymbolicLink(file.toPath(), blob.toPath())
        assertEquals(Bundle.open(golden).vector(0, 3).toList(), Bundle.open(folder).vector(0, 3).toList())
    }

    @Test
    fun `half floats read as they are`() {
        for ((bits, value) in listOf(0x3c00 to 1f, 0xc000 to -2f, 0x0001 to 5.9604645e-8f, 0x7bff to 65504f, 0x8000 to -0f))
            assertEquals(value.toRawBits(), halfToFloat(bits.toShort()).toRawBits())
    }

    private fun refuses(folder: File, case: Golden) {
        val error = assertFailsWith<EdgeSdkException>(case["name"].text) { Bundle.open(folder) }
        assertOneLine(error)
        val word = words.getValue(case["class"].text)
        assertTrue(word in error.message!!, "${case["class"].text} is said as: ${error.message}")
        if (case.has("entry")) assertTrue(case["entry"].text in error.message!!, error.message)
        folder.deleteRecursively()
    }

    private fun assertOneLine(error: EdgeSdkException) {
        assertTrue('\n' !in error.message!! && "; " in error.message!!, error.message)
    }

    private fun copy(): File = temporary.newFolder().resolve("bundle").also { golden.copyRecursively(it) }
}

/** Replaces a text that the manifest of a bundle has exactly once. */
internal fun edit(folder: File, old: String, new: String) {
    val manifest = folder.resolve("manifest.json")
    val text = manifest.readText()
    check(text.split(old).size == 2) { "$old is not there once" }
    manifest.writeText(text.replace(old, new))
}
