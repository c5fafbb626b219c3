package edge.sdk.zo

import edge.sdk.testing.GoldenCases
import edge.sdk.testing.assertClose
import edge.sdk.testing.toDoubles
import kotlin.test.assertEquals
import org.junit.Test

class SubspaceTest {
    private fun projection(rows: List<FloatArray>, width: Int) = DoubleArray(width * width) { at ->
        rows.sumOf { it[at / width].toDouble() * it[at % width] }
    }

    @Test
    fun `directions of low variance span what they must`() = GoldenCases.each(GoldenCases.read("subspace.json")["cases"]) { case ->
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
        assertClose(
            DoubleArray(removed.size * removed.size) { if (it % (removed.size + 1) == 0) 1.0 else 0.0 },
            DoubleArray(removed.size * removed.size) { dot(removed[it / removed.size].toDoubles(), removed[it % removed.size].toDoubles()) },
            1e-6,
        )
    }
}
