package edge.sdk.testing

import kotlin.math.abs
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** Numbers are equal but for a bound, absolute. NaN equals NaN. */
fun assertClose(expected: DoubleArray, actual: DoubleArray, bound: Double) {
    assertEquals(expected.size, actual.size, "how many numbers there are")
    for (i in expected.indices) {
        val same = expected[i] == actual[i] || expected[i].isNaN() && actual[i].isNaN()
        assertTrue(same || abs(expected[i] - actual[i]) <= bound, "number $i is ${actual[i]}, not ${expected[i]}")
    }
}

fun assertClose(expected: FloatArray, actual: FloatArray, bound: Double) =
    assertClose(expected.toDoubles(), actual.toDoubles(), bound)

/** Numbers are equal, or each other's neighbours. */
fun assertWithinOneUlp(expected: FloatArray, actual: FloatArray) {
    assertEquals(expected.size, actual.size, "how many numbers there are")
    for (i in expected.indices) {
        val near = abs(expected[i] - actual[i]) <= Math.ulp(expected[i])
        assertTrue(near, "number $i is ${actual[i]}, not ${expected[i]}")
    }
}

/** Numbers are equal, bit for bit. */
fun assertExact(expected: FloatArray, actual: FloatArray) =
    assertEquals(expected.map { it.toRawBits() }, actual.map { it.toRawBits() })

fun FloatArray.toDoubles() = DoubleArray(size) { this[it].toDouble() }
