package edge.sdk.runtime

import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import org.junit.Test

class JsonTest {
    @Test
    fun `a text comes back as Python writes it`() {
        val text = """{"a": [1, -2, 1.0, 0.005, 1e-08, 1.5e+300, 1e+16, 123456789012345.6], "\u00fc\n": {"": null}, "b": [true, false, []]}"""
        assertEquals(text, Json.text(Json.parse(text)))
    }

    @Test
    fun `numbers have the fewest digits that read back`() {
        val expected = mapOf(
            Math.scalb(1.0, -44) to "5.684341886080802e-14",
            2e-3 to "0.002",
            2.2250738585072014e-308 to "2.2250738585072014e-308",
            5e-324 to "5e-324",
            9007199254740992.0 to "9007199254740992.0",
            1e22 to "1e+22",
            1.2345678901234567e-4 to "0.00012345678901234567",
            -0.0 to "-0.0",
            100.0 to "100.0",
            Double.NaN to "nan",
            Double.POSITIVE_INFINITY to "inf",
        )
        for ((value, text) in expected) assertEquals(text, Json.number(value))
    }

    @Test
    fun `what is no JSON is refused`() {
        val wrong = listOf(
            "", "{", "[1,]", "{\"a\": 1, \"a\": 2}", "01", "1.", "nul", "NaN", "\"\u0001\"", "\"\\x\"", "\"\\u12\"", "[1] 2",
            "'a'", "{a: 1}", "[1 2]", "[".repeat(1000), "9".repeat(5000), "\"", "-", "+1", "{\"a\"}",
        )
        for (text in wrong) assertFailsWith<IllegalArgumentException>(text) { Json.parse(text) }
    }

    @Test
    fun `a seed beyond 63 bits keeps its digits`() {
        assertEquals("18446744073709551615", Json.parse(" 18446744073709551615\n").toString())
    }
}
