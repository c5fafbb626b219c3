package edge.sdk.ort

import edge.sdk.EdgeSdkException
import edge.sdk.runtime.Bundle
import edge.sdk.runtime.FloatTensor
import edge.sdk.runtime.Golden
import edge.sdk.testing.GoldenCases
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

class OrtGraphTest {
    @get:Rule
    val temporary = TemporaryFolder()
    private val golden = GoldenCases.folder.resolve("bundle")
    private val embedded = GoldenCases.folder.resolve("../../edge_sdk/pocket/bundle")
    private val pixels = mapOf("pixels" to FloatTensor(intArrayOf(1, 3, 8, 8), FloatArray(192)))

    @Test
    fun `golden vectors of the golden and of the embedded bundle`() {
        for (folder in listOf(golden, embedded)) {
            val outcomes = Golden.verify(Bundle.open(folder), OrtLoader())
            assertEquals(5, outcomes.size)
            for (outcome in outcomes) assertTrue(outcome.good, "${outcome.graph}: ${outcome.worst} > ${outcome.bound}")
        }
    }

    @Test
    fun `a graph that the runtime does not take is one line`() {
        val case = GoldenCases.read("damaged.json")["graph"]
        val folder = copy()
        GoldenCases.folder.resolve(case["copy"].text).copyTo(folder.resolve(case["to"].text), overwrite = true)
        for (edit in case["replace"].list) edit(folder, edit.list[0].text, edit.list[1].text)
        GoldenCases.one(case) {
            val bundle = Bundle.open(folder)
            assertOneLine(assertFailsWith<EdgeSdkException> { OrtLoader().open(bundle, "vae_encoder") })
        }
    }

    @Test
    fun `settings that the runtime does not know are one line`() {
        for ((old, new) in listOf(
            "\"enable_cpu_mem_arena\": false" to "\"enable_cpu_mem_arena\": 1",
            "\"enable_cpu_mem_arena\": false" to "\"graph_optimization_level\": \"most\"",
            "\"enable_cpu_mem_arena\": false" to "\"intra_op_num_threads\": -1",
            "\"session.disable_prepacking\": \"1\"" to "\"session.disable_prepacking\": 1",
        )) {
            val folder = copy()
            edit(folder, old, new)
            assertOneLine(assertFailsWith<EdgeSdkException>(new) { OrtLoader().open(Bundle.open(folder), "vae_encoder") })
        }
        assertOneLine(assertFailsWith<EdgeSdkException> { OrtLoader(threads = -1) })
    }

    @Test
    fun `wrong inputs are one line`() = OrtLoader().open(Bundle.open(golden), "vae_encoder").use { graph ->
        val wrong = mapOf("pixels" to FloatTensor(intArrayOf(1, 3, 8, 4), FloatArray(96)))
        assertOneLine(assertFailsWith<EdgeSdkException> { graph.run(wrong, listOf("mean")) })
        assertOneLine(assertFailsWith<EdgeSdkException> { graph.run(emptyMap(), listOf("mean")) })
        assertOneLine(assertFailsWith<EdgeSdkException> { graph.run(pixels, listOf("median")) })
    }

    @Test
    fun `a graph may be closed twice and then runs no more`() {
        val graph = OrtLoader(threads = 1).open(Bundle.open(golden), "vae_encoder")
        assertEquals(listOf("std"), graph.run(pixels, listOf("std")).keys.toList())
        graph.close()
        graph.close()
        assertFailsWith<IllegalStateException> { graph.run(pixels, listOf("std")) }
    }

    private fun assertOneLine(error: EdgeSdkException) = assertTrue('\n' !in error.message!!, error.message)

    private fun copy(): File = temporary.newFolder().resolve("bundle").also { golden.copyRecursively(it) }

    private fun edit(folder: File, old: String, new: String) {
        val manifest = folder.resolve("manifest.json")
        val text = manifest.readText()
        check(text.split(old).size == 2) { "$old is not there once" }
        manifest.writeText(text.replace(old, new))
    }
}
