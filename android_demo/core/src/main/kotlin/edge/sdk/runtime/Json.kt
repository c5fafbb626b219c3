package edge.sdk.runtime

import java.math.BigDecimal
import java.math.BigInteger
import java.math.MathContext
import java.math.RoundingMode

/**
 * JSON, strict, read and written as Python's `json` does.
 *
 * A value is a `Map<String, Any?>` in the text's order, a `List<Any?>`, a `String`, a `Long` (a number without point or
 * exponent, a `BigInteger` where 64 bits do not hold it), a `Double`, a `Boolean` or null.
 */
object Json {
    /**
     * The value of a text.
     *
     * @throws IllegalArgumentException it is not JSON, gives a key twice, or is nested more than 64 deep
     */
    fun parse(text: String): Any? = Reader(text).whole()

    /** The text of a value, ASCII, with `", "` and `": "` between entries: what `json.dumps(value)` gives. */
    fun text(value: Any?): String = StringBuilder().also { write(value, it) }.toString()

    /** A number as Python writes it: the shortest decimal that reads back exactly, such as `1.0` or `1e-08`. */
    fun number(value: Double): String {
        if (value.isNaN()) return "nan"
        if (value.isInfinite()) return if (value > 0) "inf" else "-inf"
        val sign = if (1 / value < 0 || value < 0) "-" else ""
        if (value == 0.0) return sign + "0.0"
        val shortest = shortest(Math.abs(value))
        val digits = shortest.unscaledValue().toString()
        val point = shortest.precision() - shortest.scale() // digits before the point
        return sign + when (point) {
            in -3..0 -> "0." + "0".repeat(-point) + digits
            in 1..16 -> digits.padEnd(point, '0').let { it.take(point) + "." + it.drop(point).ifEmpty { "0" } }
            else -> {
                val exponent = Math.abs(point - 1).toString().padStart(2, '0')
                digits.take(1) + (if (digits.length > 1) "." + digits.drop(1) else "") +
                    (if (point > 0) "e+" else "e-") + exponent
            }
        }
    }

    /** Of the decimals with the fewest digits that read back as a positive number, the nearest. */
    private fun shortest(value: Double): BigDecimal {
        val exact = BigDecimal(value)
        for (precision in 1..17) { // Double.toString is not the shortest before Java 19, nor on Android
            val near = listOf(RoundingMode.DOWN, RoundingMode.UP).map { exact.round(MathContext(precision, it)) }
                .filter { it.toDouble() == value }
            near.minByOrNull { (it - exact).abs() }?.let { return it.stripTrailingZeros() }
        }
        return exact
    }

    private fun write(value: Any?, out: StringBuilder) {
        when (value) {
            is Map<*, *> -> list(value.entries, "{", "}", out) { (name, each) ->
                quote(name as String, out)
                out.append(": ")
                write(each, out)
            }
            is List<*> -> list(value, "[", "]", out) { write(it, out) }
            is String -> quote(value, out)
            is Double -> out.append(number(value).replace("nan", "NaN").replace("inf", "Infinity"))
            null, is Boolean, is Int, is Long, is ULong, is BigInteger -> out.append(value)
            else -> throw IllegalArgumentException("${value::class} is not a value of JSON")
        }
    }

    private fun <T> list(values: Collection<T>, open: String, close: String, out: StringBuilder, one: (T) -> Unit) {
        out.append(open)
        values.forEachIndexed { i, value ->
            if (i > 0) out.append(", ")
            one(value)
        }
        out.append(close)
    }

    private fun quote(text: String, out: StringBuilder) {
        out.append('"')
        for (letter in text) {
            when (letter) {
                '"', '\\' -> out.append('\\').append(letter)
                '\n' -> out.append("\\n")
                '\r' -> out.append("\\r")
                '\t' -> out.append("\\t")
                '\b' -> out.append("\\b")
                '\u000c' -> out.append("\\f")
                in ' '..'~' -> out.append(letter)
                else -> out.append("\\u").append(letter.code.toString(16).padStart(4, '0'))
            }
        }
        out.append('"')
    }

    private class Reader(private val text: String) {
        private var at = 0

        fun whole(): Any? {
            val value = value(0)
            if (at < text.length) fail("more follows the value")
            return value
        }

        private fun value(depth: Int): Any? {
            if (depth > DEEPEST) fail("nested too deeply")
            skipSpace()
            val value = when (peek()) {
                '{' -> map(depth)
                '[' -> list(depth)
                '"' -> string()
                't' -> word("true", true)
                'f' -> word("false", false)
                'n' -> word("null", null)
                else -> number()
            }
            skipSpace()
            return value
        }

        private fun map(depth: Int): Map<String, Any?> = LinkedHashMap<String, Any?>().also { map ->
            entries('}') {
                skipSpace()
                if (peek() != '"') fail("a key is missing")
                val name = string()
                skipSpace()
                take(':')
                if (name in map) fail("the key $name is given twice")
                map[name] = value(depth + 1)
            }
        }

        private fun list(depth: Int): List<Any?> =
            ArrayList<Any?>().also { list -> entries(']') { list += value(depth + 1) } }

        private fun entries(close: Char, one: () -> Unit) {
            at++
            skipSpace()
            if (peek() == close) {
                at++
                return
            }
            while (true) {
                one()
                if (peek() == close) break
                take(',')
            }
            at++
        }

        private fun string(): String {
            at++
            val out = StringBuilder()
            while (true) {
                when (val letter = next()) {
                    '"' -> return out.toString()
                    '\\' -> out.append(escaped())
                    else -> if (letter < ' ') fail("a text is not closed") else out.append(letter)
                }
            }
        }

        private fun escaped(): Char = when (val letter = next()) {
            '"', '\\', '/' -> letter
            'b' -> '\b'
            'f' -> '\u000c'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                val digits = text.substring(at, minOf(at + 4, text.length))
                if (!digits.matches(HEXADECIMAL)) fail("\\u needs four hexadecimal digits")
                at += 4
                digits.toInt(16).toChar()
            }
            else -> fail("a text has a wrong escape")
        }

        private fun number(): Any {
            val match = NUMBER.matchAt(text, at) ?: fail("a value is missing")
            if (match.value.length > LONGEST_NUMBER) fail("a number is too long")
            at = match.range.last + 1
            if (match.value.any { it in ".eE" }) return match.value.toDouble()
            return match.value.toLongOrNull() ?: BigInteger(match.value)
        }

        private fun <T> word(word: String, value: T): T {
            if (!text.startsWith(word, at)) fail("a value is missing")
            at += word.length
            return value
        }

        private fun skipSpace() {
            while (at < text.length && text[at] in " \t\n\r") at++
        }

        private fun peek(): Char = if (at < text.length) text[at] else fail("it ends too early")

        private fun next(): Char = peek().also { at++ }

        private fun take(letter: Char) {
            if (next() != letter) fail("$letter is missing")
        }

        private fun fail(problem: String): Nothing = throw IllegalArgumentException("$problem at character ${at + 1}")
    }

    private const val DEEPEST = 64
    private const val LONGEST_NUMBER = 1000
    private val NUMBER = Regex("""-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?""")
    private val HEXADECIMAL = Regex("[0-9a-fA-F]{4}")
}
