package edge.sdk.runtime

import java.io.File
import java.io.IOException
import java.math.BigDecimal
import java.math.BigInteger
import java.math.MathContext
import java.math.RoundingMode
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import edge.sdk.EdgeSdkException
import edge.sdk.oneLine

/** An object of JSON, in the order of the text. */
typealias JsonObject = Map<String, Any?>

/**
 * JSON (RFC 8259), read strictly and written as Python's `json.dumps` writes it; the twin of edge_sdk/system/json.py.
 *
 * A value is a Map, a List, a String, a Boolean, null, a Long (BigInteger beyond 64 bits) or a Double. Refused is what
 * readers understand differently: keys that are given twice, numbers that no float holds, halves of surrogate pairs.
 */
object Json {
    const val MOST_BYTES = 16 shl 20 // of a manifest
    const val MOST_TOKENIZER_BYTES = 64 shl 20
    const val MOST_DEPTH = 64 // of objects and lists in one another
    const val MOST_DIGITS = 38 // of an integer; transformers writes 10**30 for "no limit"

    /**
     * The value of a text.
     *
     * @param infinity accept NaN, Infinity and -Infinity.
     * @throws IllegalArgumentException one line.
     */
    fun parse(text: String, infinity: Boolean = false): Any? = JsonReader(text, infinity).whole()

    /** The value of UTF-8 bytes, with or without a byte order mark. */
    fun parse(bytes: ByteArray, infinity: Boolean = false): Any? = parse(decodeUtf8(bytes), infinity)

    /**
     * The object that a file holds.
     *
     * @param hint ends the message of an error: what to do.
     * @throws EdgeSdkException the file is missing, too large, not JSON, or holds something else than an object.
     */
    fun readObject(file: File, hint: String, most: Int = MOST_BYTES, infinity: Boolean = false): JsonObject {
        val value = try {
            parse(readBytes(file, most), infinity)
        } catch (error: IOException) {
            val why = if (file.exists()) "cannot be read: ${oneLine(error, 160)}" else "does not exist"
            throw EdgeSdkException("$file $why; $hint", error)
        } catch (error: IllegalArgumentException) {
            throw EdgeSdkException("$file cannot be read as JSON (${oneLine(error, 160)}); $hint", error)
        }
        @Suppress("UNCHECKED_CAST")
        return value as? JsonObject ?: throw EdgeSdkException("$file holds ${describeType(value)}, not an object; $hint")
    }

    /** A value as Python's `json.dumps` writes it: `", "` and `": "`, ASCII only, floats by their shortest decimal. */
    fun write(value: Any?, indent: Int = 0): String = StringBuilder().also { writeTo(it, value, indent, 0) }.toString()

    private fun writeTo(out: StringBuilder, value: Any?, indent: Int, level: Int) {
        when (value) {
            null -> out.append("null")
            is String -> quote(out, value)
            is Double -> out.append(shortest(value))
            is Float -> out.append(shortest(value.toDouble()))
            is Boolean, is Number, is ULong -> out.append(value)
            is Map<*, *> -> writeAll(out, value.entries, "{}", indent, level) { (key, each) ->
                quote(out, key as String)
                out.append(": ")
                writeTo(out, each, indent, level + 1)
            }
            is Collection<*> -> writeAll(out, value, "[]", indent, level) { writeTo(out, it, indent, level + 1) }
            else -> throw IllegalArgumentException("${value.javaClass.simpleName} is no value of JSON")
        }
    }

    private fun <T> writeAll(out: StringBuilder, all: Collection<T>, ends: String, indent: Int, level: Int, write: (T) -> Unit) {
        fun newLine(depth: Int) = out.append("\n").append(" ".repeat(indent * depth))
        out.append(ends[0])
        all.forEachIndexed { i, each ->
            if (i > 0) out.append(if (indent > 0) "," else ", ")
            if (indent > 0) newLine(level + 1)
            write(each)
        }
        if (indent > 0 && all.isNotEmpty()) newLine(level)
        out.append(ends[1])
    }

    private fun quote(out: StringBuilder, text: String) {
        out.append('"')
        for (letter in text) {
            when (letter) {
                '"' -> out.append("\\\"")
                '\\' -> out.append("\\\\")
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

    /** The shortest decimal that reads back exactly, as Python's `repr` writes it. */
    fun shortest(value: Double): String {
        if (value.isNaN()) return "NaN"
        if (value.isInfinite()) return if (value > 0) "Infinity" else "-Infinity"
        if (value == 0.0) return if (1 / value < 0) "-0.0" else "0.0"
        // Double.toString of older Java and of Android is not always the shortest (JDK-4511638).
        val exact = BigDecimal(value)
        // Beside a power of two the nearest decimal of so many digits may belong to the number below.
        val short = (1..17).firstNotNullOf { digits ->
            listOf(RoundingMode.DOWN, RoundingMode.UP).map { exact.round(MathContext(digits, it)) }
                .filter { it.toDouble() == value }.minByOrNull { (it - exact).abs() }
        }
        val digits = short.unscaledValue().abs().toString().trimEnd('0')
        val exponent = short.precision() - short.scale() - 1 // of the first digit
        val sign = if (value < 0) "-" else ""
        if (exponent in -4..15) {
            val plain = short.stripTrailingZeros().toPlainString()
            return if ('.' in plain) plain else "$plain.0"
        }
        val fraction = if (digits.length > 1) ".${digits.drop(1)}" else ""
        val power = (if (exponent < 0) "-" else "+") + kotlin.math.abs(exponent).toString().padStart(2, '0')
        return "$sign${digits[0]}${fraction}e$power"
    }
}

/** A text of UTF-8 bytes without its byte order mark; throws IllegalArgumentException for other bytes. */
internal fun decodeUtf8(bytes: ByteArray): String = try {
    Charsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString().removePrefix("\uFEFF")
} catch (error: CharacterCodingException) {
    throw IllegalArgumentException("it is not UTF-8 text", error)
}

/**
 * The bytes of a regular file of at most [most] bytes; a pipe is not waited for.
 *
 * @throws IOException it is none, or larger
 */
fun readBytes(file: File, most: Int): ByteArray {
    if (!file.exists()) throw IOException("there is no such file")
    if (!file.isFile) throw IOException(if (file.isDirectory) "it is a folder" else "it is not a regular file")
    if (file.length() > most) throw IOException("it has ${file.length()} bytes; at most $most are read")
    return file.readBytes()
}

private fun describeType(value: Any?) = when (value) {
    null -> "null"
    is List<*> -> "a list"
    is String -> "a text"
    is Boolean -> "true or false"
    else -> "a number"
}

private class JsonReader(private val text: String, private val infinity: Boolean) {
    private var at = 0

    fun whole(): Any? {
        val value = value(0)
        skipSpace()
        if (at < text.length) fail("there is more behind its end")
        return value
    }

    private fun value(depth: Int): Any? {
        skipSpace()
        return when (val letter = peek()) {
            '{' -> objectOf(deeper(depth))
            '[' -> listOf(deeper(depth))
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> if (letter == '-' || letter in '0'..'9') number() else constant()
        }
    }

    private fun deeper(depth: Int): Int {
        if (depth >= Json.MOST_DEPTH) throw IllegalArgumentException("it is nested more than ${Json.MOST_DEPTH} levels deep")
        at++
        return depth + 1
    }

    private fun objectOf(depth: Int): JsonObject {
        val entries = LinkedHashMap<String, Any?>()
        items('}') {
            skipSpace()
            if (peek() != '"') fail("a key is missing")
            val key = string()
            skipSpace()
            expect(':')
            if (key in entries) throw IllegalArgumentException("the key ${ascii(key)} is given twice")
            entries[key] = value(depth)
        }
        return entries
    }

    private fun listOf(depth: Int): List<Any?> = ArrayList<Any?>().also { items(']') { it += value(depth) } }

    private inline fun items(end: Char, item: () -> Unit) {
        skipSpace()
        if (peek() == end) {
            at++
            return
        }
        while (true) {
            item()
            skipSpace()
            if (peek() == end) break
            expect(',')
        }
        at++
    }

    private fun string(): String {
        val out = StringBuilder()
        at++
        while (true) {
            val letter = next()
            when {
                letter == '"' -> break
                letter == '\\' -> out.append(escape())
                letter < ' ' -> fail("a control character in a text")
                else -> out.append(letter)
            }
        }
        for (i in out.indices) {
            val paired = if (out[i].isHighSurrogate()) out.getOrNull(i + 1)?.isLowSurrogate() == true
            else !out[i].isLowSurrogate() || (i > 0 && out[i - 1].isHighSurrogate())
            if (!paired) fail("half of a surrogate pair")
        }
        return out.toString()
    }

    private fun escape(): Char = when (val letter = next()) {
        '"', '\\', '/' -> letter
        'b' -> '\b'
        'f' -> '\u000c'
        'n' -> '\n'
        'r' -> '\r'
        't' -> '\t'
        'u' -> {
            val digits = text.substring(at, minOf(at + 4, text.length))
            if (digits.length < 4 || digits.any { it !in '0'..'9' && it !in 'a'..'f' && it !in 'A'..'F' }) fail("a wrong escape")
            at += 4
            digits.toInt(16).toChar()
        }
        else -> fail("a wrong escape")
    }

    private fun number(): Any {
        val start = at
        if (peek() == '-') at++
        if (peek() == 'I') return constant()
        val first = digits()
        if (first.length > 1 && first[0] == '0') fail("a number that begins with 0")
        var whole = true
        if (at < text.length && text[at] == '.') {
            at++
            digits()
            whole = false
        }
        if (at < text.length && text[at] in "eE") {
            at++
            if (at < text.length && text[at] in "+-") at++
            digits()
            whole = false
        }
        val given = text.substring(start, at)
        if (!whole) {
            val value = given.toDouble()
            if (value.isInfinite()) throw IllegalArgumentException("${given.take(40)} is too large for a number")
            return value
        }
        if (first.length > Json.MOST_DIGITS)
            throw IllegalArgumentException("an integer has ${first.length} digits; at most ${Json.MOST_DIGITS} are read")
        return given.toLongOrNull() ?: BigInteger(given)
    }

    private fun digits(): String {
        val start = at
        while (at < text.length && text[at] in '0'..'9') at++
        if (at == start) fail("a digit is missing")
        return text.substring(start, at)
    }

    private fun constant(): Double {
        val (name, value) = CONSTANTS.firstOrNull { text.startsWith(it.first, at) } ?: fail("a value is missing")
        val negative = value > 0 && at > 0 && text[at - 1] == '-'
        if (!infinity) throw IllegalArgumentException("$name is no number of JSON")
        at += name.length
        return if (negative) -value else value
    }

    private fun word(name: String, value: Any?): Any? {
        if (!text.startsWith(name, at)) fail("a value is missing")
        at += name.length
        return value
    }

    private fun skipSpace() {
        while (at < text.length && text[at] in " \t\n\r") at++
    }

    private fun peek(): Char = if (at < text.length) text[at] else fail("it ends too early")

    private fun next(): Char = peek().also { at++ }

    private fun expect(letter: Char) {
        if (next() != letter) fail("'$letter' is missing")
    }

    private fun fail(what: String): Nothing = throw IllegalArgumentException("$what, at character ${minOf(at, text.length)}")

    private companion object {
        val CONSTANTS = listOf("NaN" to Double.NaN, "Infinity" to Double.POSITIVE_INFINITY)
    }
}

/** A value in at most 60 characters of ASCII, in Python's quotes if it is a text. */
internal fun ascii(value: Any?): String {
    val text = if (value is String) "'${Json.write(value.take(60)).drop(1).dropLast(1).replace("\\\"", "\"")}'" else Json.write(value)
    return if (text.length <= 60) text else text.take(57) + "..."
}
