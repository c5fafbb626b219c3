package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.testing.Golden
import edge.sdk.testing.GoldenCases
import edge.sdk.testing.assertExact
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import org.junit.Test

class LearnedEmbeddingTest {
    private val golden = GoldenCases.read("learned_embeds.json")

    private fun embedding(case: Golden) = LearnedEmbedding(
        case["token"].text,
        case["vectors"].floats,
        case["encoder_dims"].ints,
        case["metadata"].map.mapValues { it.value as String },
    )

    private fun file(vararg tensors: Pair<String, StoredTensor>) =
        Safetensors(emptyMap<String, Any?>(), tensors.toMap()).toBytes { Json.write(it) }

    @Test
    fun `the file is that of Python, byte for byte`() = GoldenCases.each(golden["files"]) { case ->
        assertContentEquals(GoldenCases.bytes(case["file"].text), embedding(case).toBytes())
    }

    @Test
    fun `a file comes back`() = GoldenCases.each(golden["files"]) { case ->
        val read = LearnedEmbedding.parse(GoldenCases.bytes(case["file"].text), "file")
        assertEquals(case["token"].text, read.token)
        assertExact(case["vectors"].floats, read.vectors)
        assertContentEquals(case["encoder_dims"].ints, read.widths)
    }

    @Test
    fun `files of other programs are read`() {
        val halves = StoredTensor("F16", intArrayOf(2), byteArrayOf(0, 0x3c, 0, 0xc0.toByte())) // 1, -2
        val brains = StoredTensor("BF16", intArrayOf(1, 2), byteArrayOf(0x80.toByte(), 0x3f, 0, 0xc0.toByte()))
        for (tensor in listOf(halves, brains, StoredTensor.of(doubleArrayOf(1.0, -2.0), 1, 2))) {
            val read = LearnedEmbedding.parse(file("<a>" to tensor), "file")
            assertExact(floatArrayOf(1f, -2f), read.vectors)
            assertEquals(1, read.numVectors)
            assertEquals("cup", LearnedEmbedding.parse(file("emb_params" to tensor), "folder/cup.safetensors").token)
        }
    }

    @Test
    fun `a word of any letters is written`() {
        val token = "<\"\\\uD83D\uDE00>"
        val bytes = LearnedEmbedding(token, FloatArray(4) { 1f }, intArrayOf(4)).toBytes()
        assertEquals(token, LearnedEmbedding.parse(bytes, "file").token)
    }

    @Test
    fun `what is no embedding is refused in one line`() {
        val whole = GoldenCases.bytes("learned_embeds_xl.safetensors")
        val wrong = whole.indices.map { whole.copyOf(it) } + listOf(
            whole + 0,
            GoldenCases.bytes("state_adam.safetensors"),
            "not a file".toByteArray(),
            file("a" to StoredTensor.of(FloatArray(8), 2, 2, 2)),
            file("a" to StoredTensor.of(floatArrayOf(1f), 1, 1), "b" to StoredTensor.of(floatArrayOf(1f), 1, 1)),
            file("a\u0001" to StoredTensor.of(floatArrayOf(1f), 1)),
            file(" " to StoredTensor.of(floatArrayOf(1f), 1)),
            file("clip_l" to StoredTensor.of(FloatArray(4), 2, 2), "clip_g" to StoredTensor.of(FloatArray(2), 1, 2)),
            file(),
            whole.copyOf().also { it[it.size - 1] = 0x7f; it[it.size - 2] = -1 }, // a NaN
        )
        for (bytes in wrong) {
            val error = assertFailsWith<EdgeSdkException> { LearnedEmbedding.parse(bytes, "file") }
            assertEquals(1, error.message!!.lines().size)
        }
    }

    @Test
    fun `a number that is not finite is not written`() {
        assertFailsWith<EdgeSdkException> { LearnedEmbedding("<a>", floatArrayOf(Float.NaN), intArrayOf(1)).toBytes() }
    }
}
