package edge.sdk.zo

import edge.sdk.testing.Golden
import edge.sdk.testing.GoldenCases
import edge.sdk.testing.assertExact
import edge.sdk.testing.assertWithinOneUlp
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import org.junit.Test

class NoiseTest {
    private val golden = GoldenCases.read("noise.json")

    private fun Golden.stream() = Stream.entries.single { it.word == this["stream"].int }

    private fun Golden.words() = IntArray(list.size) { list[it].long.toInt() }

    private val Golden.values get() = this["values"]

    @Test
    fun `blocks are those that were published`() = GoldenCases.each(golden["philox4x32_10"]) { case ->
        assertContentEquals(case["output"].words(), Noise.philox4x32(case["counter"].words(), case["key"].words()))
    }

    @Test
    fun `words are exact`() = GoldenCases.each(golden["words"]) { case ->
        val start = case["start"].long
        val words = Noise.words(case["seed"].seed, case.stream(), case["step"].long, case.values.list.size, start)
        assertContentEquals(case.values.words(), words)
    }

    @Test
    fun `uniforms are exact`() = GoldenCases.each(golden["uniforms"]) { case ->
        val uniforms = Noise.uniforms(case["seed"].seed, case.stream(), case["step"].long, case.values.list.size)
        assertContentEquals(case.values.doubles, uniforms)
    }

    @Test
    fun `integers are exact`() = GoldenCases.each(golden["integers"]) { case ->
        val count = case.values.list.size
        val integers = Noise.integers(case["seed"].seed, case.stream(), case["step"].long, count, case["n"].long)
        assertEquals(case.values.list.map { it.long }, integers.toList())
    }

    @Test
    fun `normals are within one ulp`() {
        GoldenCases.each(golden["normals"]) { case ->
            val normals = Noise.normals(case["seed"].seed, case.stream(), case["step"].long, case.values.list.size)
            assertWithinOneUlp(case.values.floats, normals)
        }
        GoldenCases.each(golden["normals_from"]) { case ->
            val (count, start) = case.values.list.size to case["start"].long
            val normals = Noise.normals(case["seed"].seed, case.stream(), case["step"].long, count, start)
            assertWithinOneUlp(case.values.floats, normals)
        }
    }

    @Test
    fun `a longer request begins with the shorter one, from any place`() {
        val all = Noise.normals(5u, Stream.NOISE, 3, 23)
        for (start in 0..6) for (count in 0..8) {
            val some = Noise.normals(5u, Stream.NOISE, 3, count, start.toLong())
            assertExact(all.copyOfRange(start, start + count), some)
        }
    }

    @Test
    fun `a step beyond 32 bits is refused`() {
        assertFailsWith<IllegalArgumentException> { Noise.words(0u, Stream.NOISE, 1L shl 32, 1) }
    }
}
