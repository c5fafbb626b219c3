package edge.sdk.runtime

import java.text.Normalizer
import java.util.Locale

// Regular expressions of Java and of Android differ in what \s and \p mean, so letters are told apart here.

/** The code points of a text, one after the other. */
internal fun codePoints(text: String): IntArray = IntArray(text.codePointCount(0, text.length)).also {
    var at = 0
    for (i in it.indices) {
        it[i] = text.codePointAt(at)
        at += Character.charCount(it[i])
    }
}

internal fun textOf(codePoint: Int): String = String(Character.toChars(codePoint))

/** Unicode's White_Space. */
internal fun isWhiteSpace(codePoint: Int): Boolean =
    codePoint in 9..13 || codePoint == 0x85 || Character.isSpaceChar(codePoint)

/** White space as Python's `str.isspace` has it. */
internal fun isPythonSpace(letter: Char): Boolean = letter in '\u001c'..'\u001f' || isWhiteSpace(letter.code)

/** Letters, marks, decimal digits and connectors: what a word that stands by itself is not beside. */
internal fun isWordLetter(codePoint: Int): Boolean = Character.isAlphabetic(codePoint) || codePoint in 0x200c..0x200d ||
    when (Character.getType(codePoint).toByte()) {
        Character.NON_SPACING_MARK, Character.ENCLOSING_MARK, Character.COMBINING_SPACING_MARK,
        Character.DECIMAL_DIGIT_NUMBER, Character.CONNECTOR_PUNCTUATION,
        -> true
        else -> false
    }

internal fun isNumber(codePoint: Int): Boolean = when (Character.getType(codePoint).toByte()) {
    Character.DECIMAL_DIGIT_NUMBER, Character.LETTER_NUMBER, Character.OTHER_NUMBER -> true
    else -> false
}

/** Whether a text holds no half of a surrogate pair. */
internal fun isUnicode(text: String): Boolean = codePoints(text).none { it in 0xd800..0xdfff }

internal fun composed(text: String): String = Normalizer.normalize(text, Normalizer.Form.NFC)

/** The lower case of a letter by itself: a sigma is never a final one. */
internal fun lower(codePoint: Int): String = textOf(codePoint).lowercase(Locale.ROOT)

/** A word as words are compared: composed, and in lower case as far as a letter stays one letter. */
internal fun fold(word: String): String = codePoints(composed(word)).joinToString("") {
    val small = lower(it)
    if (small.length == Character.charCount(it)) small else textOf(it)
}

/** A text as CLIP prepares it: composed, each run of white space one space, every letter in lower case. */
internal fun prepared(text: String): String {
    val out = StringBuilder()
    var inSpace = false
    for (codePoint in codePoints(composed(text))) {
        val space = isWhiteSpace(codePoint)
        if (!space) out.append(lower(codePoint)) else if (!inSpace) out.append(' ')
        inSpace = space
    }
    return out.toString()
}
