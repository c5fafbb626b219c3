package edge.sdk.zo

import edge.sdk.testing.GoldenCases
import edge.sdk.testing.assertClose
import edge.sdk.testing.toDoubles
import kotlin.test.assertEquals
import kotlin.test.assertTrue
import org.junit.Test

class SubspaceTest {
    private val golden = GoldenCases.read("subspace.json")

    private fun projection(rows: List<FloatArray>, width: Int) = DoubleArray(width * width) { at ->
        rows.sumOf { it[at / width].toDouble() * it[at % width] }
    }

    @Test
    fun `directions of low variance span what they must`() = GoldenCases.each(golden["cases"]) { case ->
        val history = case["history"].list.map { it.floats }
        val expected = case["removed"].list.map { it.floats }
        val removed = lowVarianceDirections(history, case["threshold"].double)
        assertEquals(expected.size, removed.size)
        val width = history[0].size
        assertClose(projection(expected, width), projection(removed, width), 1e-5)
    }

    @Test
    fun `more tokens than coordinates give orthonormal directions in a moment`() {
        val history = List(128) { Noise.normals(1u, Stream.NOISE, it.toLong(), 6) }
        val removed = lowVarianceDirections(history, 0.3)
        val r = removed.size
        val products = DoubleArray(r * r) { dot(removed[it / r].toDoubles(), removed[it % r].toDoubles()) }
        assertTrue(r > 0)
        assertClose(DoubleArray(r * r) { if (it % (r + 1) == 0) 1.0 else 0.0 }, products, 1e-6)
    }
}
