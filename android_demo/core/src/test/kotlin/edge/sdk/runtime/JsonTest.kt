package edge.sdk.runtime

import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import org.junit.Test

class JsonTest {
    @Test
    fun `a text comes back as Python writes it`() {
        val text = """{"a": [1, -2, 1.0, 0.005, 1e-08, 1.5e+300, 1e+16], "\u00fc\n": {"": null}, "b": [true, false, []]}"""
        assertEquals(text, Json.write(Json.parse(text)))
    }

    @Test
    fun `numbers have the fewest digits that read back`() {
        val expected = mapOf(
            Math.scalb(1.0, -44) to "5.684341886080802e-14", // its nearest decimal of 16 digits is another number's
            2e-3 to "0.002",
            2.2250738585072014e-308 to "2.2250738585072014e-308",
            5e-324 to "5e-324",
            9007199254740992.0 to "9007199254740992.0",
            1e22 to "1e+22",
            -1.2345678901234567e-4 to "-0.00012345678901234567",
            -0.0 to "-0.0",
            100.0 to "100.0",
        )
        for ((value, text) in expected) assertEquals(text, Json.write(value))
    }

    @Test
    fun `what is no JSON is refused in one line`() {
        val wrong = listOf(
            "", "{", "[1,]", "{\"a\": 1, \"a\": 2}", "01", "1.", "nul", "NaN", "\"\u0001\"", "\"\\x\"", "\"\\u12\"", "[1] 2",
            "'a'", "{a: 1}", "[1 2]", "[".repeat(1000), "9".repeat(5000), "\"", "-", "+1", "{\"a\"}", "\"\\ud800\"", "1e999",
        )
        for (text in wrong) {
            val error = assertFailsWith<IllegalArgumentException>(text) { Json.parse(text) }
            assertEquals(1, error.message!!.lines().size)
        }
    }

    @Test
    fun `a seed beyond 63 bits keeps its digits`() {
        assertEquals("18446744073709551615", Json.parse(" 18446744073709551615\n").toString())
    }
}
