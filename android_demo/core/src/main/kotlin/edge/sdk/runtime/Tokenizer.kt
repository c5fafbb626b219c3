package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import java.io.File

/**
 * CLIP's tokenizer with placeholders; the twin of edge_sdk/diffusion/tokenizer.py.
 *
 * A placeholder's vectors take the token ids that follow the vocabulary: id `vocabSize + k` stands for vector k.
 *
 * @param folder of the tokenizer's files.
 * @param vocabSize rows of the embedding table.
 * @param length tokens of a row, the marks of beginning and end included.
 * @throws EdgeSdkException a file cannot be read, or the tokenizer does not know its marks, or not within the table.
 */
class Tokenizer(private val folder: File, val vocabSize: Int, val length: Int) {
    private val vocabulary: Map<String, Int>
    private val merges = HashMap<Long, LongArray>() // a pair of ids -> rank, id of both together
    private val added = LinkedHashMap<String, Int>() // content -> id
    private val asWritten: Stage
    private val asPrepared: Stage
    private val folded: Set<String>
    val bos: Int
    val eos: Int

    /** What fills rows up. */
    val pad: Int

    init {
        val files = TokenizerFolder.read(folder)
        vocabulary = files.vocabulary
        files.merges.forEachIndexed { rank, (first, second) ->
            val key = pairOf(known(first), known(second))
            merges[key] = longArrayOf(rank.toLong(), known(first + second).toLong())
        }
        var last = vocabulary.size - 1
        for (token in files.added) {
            val id = vocabulary[token.content] ?: (last + 1)
            added[token.content] = id
            last = maxOf(last, id)
        }
        asWritten = Stage(files.added.filter { !it.normalized }.associateBy { it.content })
        asPrepared = Stage(files.added.filter { it.normalized }.associateBy { prepared(it.content) })
        folded = added.keys.map(::fold).toSet()
        bos = mark(BEGIN)
        eos = mark(END)
        pad = mark(files.pad)
    }

    private fun known(token: String) = vocabulary[token]
        ?: throw EdgeSdkException("$folder cannot be read as CLIP's tokenizer (a merge makes ${ascii(token)}, which is no token); download the model again")

    private fun mark(word: String) = (added[word] ?: vocabulary[word])?.takeIf { it < vocabSize }
        ?: throw EdgeSdkException("the tokenizer does not know $word; it is not CLIP's, or not this text encoder's")

    /** Token ids of a text without the marks of its beginning and end. */
    fun words(text: String): List<Int> {
        if (!isUnicode(text)) throw EdgeSdkException("the text ${ascii(text)} holds half of a letter; write it in UTF-8")
        val ids = around(asWritten, text) { piece -> around(asPrepared, prepared(piece), ::ofPrepared) }
        ids.maxOrNull()?.let {
            if (it >= vocabSize) {
                throw EdgeSdkException(
                    "the tokenizer makes token $it of ${ascii(text)}, and the text encoder knows $vocabSize; they are not of one model",
                )
            }
        }
        return ids
    }

    /** The id of a word that is one token; throws [EdgeSdkException] if it is not exactly one. */
    fun word(initializer: String): Int {
        val ids = words(initializer)
        return ids.singleOrNull() ?: throw EdgeSdkException(
            "initializer_token ${ascii(initializer)} makes ${ids.size} tokens; it must be one word that the model knows " +
                "as a single token, such as 'person' or 'dog'",
        )
    }

    /** Whether a word is a token of its own, of the vocabulary or one that was added to it, in any letters. */
    fun knows(word: String): Boolean = fold(word) in folded || words(word).let { it.size == 1 && it[0] != eos }

    /** Throws [EdgeSdkException] if the placeholder is already a word of the vocabulary. */
    fun checkPlaceholder(placeholder: String) {
        if (knows(placeholder)) {
            throw EdgeSdkException(
                "placeholder_token ${ascii(placeholder)} is already a word of the model; choose one that is not, such as '<subject>'",
            )
        }
    }

    /**
     * A prompt as a row of ids, (length,), padded and cut as CLIP's tokenizer does.
     *
     * @param placeholders word to number of its vectors, in the order in which these follow one another. A prompt may
     *   have a word in other letters, see [fold].
     * @throws EdgeSdkException a placeholder's vectors do not fit into the row.
     */
    fun row(prompt: String, placeholders: Map<String, Int> = emptyMap()): LongArray {
        var first = vocabSize
        val idsOf = LinkedHashMap<String, IntRange>()
        for ((word, count) in placeholders) {
            idsOf[fold(word)] = first until first + count
            first += count
        }
        val ids = pieces(composed(prompt), idsOf.keys).flatMap { piece ->
            idsOf[fold(piece)] ?: if (piece.all(::isPythonSpace)) emptyList() else words(piece)
        }
        val room = length - 2
        val lost = ids.drop(room).toSet()
        for ((word, own) in placeholders.keys.zip(idsOf.values)) {
            if (own.any { it in lost }) {
                throw EdgeSdkException(
                    "the prompt ${ascii(prompt)} is ${ids.size} tokens long and $word would be cut off; the model takes " +
                        "$room, use a shorter prompt or fewer vectors",
                )
            }
        }
        val inside = listOf(bos) + ids.take(room) + eos
        return LongArray(length) { (inside.getOrNull(it) ?: pad).toLong() }
    }

    /** Tokens that are looked for in a text, by how they are spelled there, the longest first. */
    private class Stage(val tokens: Map<String, AddedToken>) {
        private val longestFirst = tokens.keys.filter { it.isNotEmpty() }.sortedByDescending { it.length }

        /** The longest token that begins at a place. */
        fun at(text: String, place: Int) = longestFirst.firstOrNull { text.startsWith(it, place) }
    }

    /** Ids of a text that is cut at the tokens of a stage; what lies between is read by [inner]. */
    private fun around(stage: Stage, text: String, inner: (String) -> List<Int>): List<Int> {
        val ids = mutableListOf<Int>()
        var end = 0
        var place = 0
        while (place < text.length) {
            val spelled = stage.at(text, place)
            if (spelled == null) {
                place++
                continue
            }
            val after = place + spelled.length
            val token = stage.tokens.getValue(spelled)
            val inside = (place > 0 && isWordLetter(text.codePointBefore(place))) ||
                (after < text.length && isWordLetter(text.codePointAt(after)))
            if (!token.singleWord || !inside) {
                ids += inner(text.substring(end, place)) + vectorsOf(token.content)
                end = after
            }
            place = after
        }
        return ids + inner(text.substring(end))
    }

    /** The ids of a word that diffusers has saved as `word`, `word_1`, `word_2`, ..., one a vector. */
    private fun vectorsOf(word: String): List<Int> =
        listOf(added.getValue(word)) + generateSequence(1) { it + 1 }.map { added["${word}_$it"] }.takeWhile { it != null }.map { it!! }

    private fun ofPrepared(text: String): List<Int> {
        val ids = mutableListOf<Int>()
        var place = 0
        while (place < text.length) {
            val end = endOfWord(text, place)
            if (end > place) ids += ofWord(text.substring(place, end))
            place = maxOf(end, place + 1)
        }
        return ids
    }

    /** The ids of one word: its bytes, of which neighbours merge, the lowest rank and the leftmost first. */
    private fun ofWord(word: String): List<Int> {
        val bytes = word.toByteArray(Charsets.UTF_8)
        val ids = bytes.indices.mapTo(ArrayList()) { i ->
            vocabulary[LETTERS[bytes[i].toInt() and 0xff] + if (i == bytes.size - 1) LAST else ""] ?: eos
        }
        while (true) {
            val best = (0 until ids.size - 1).mapNotNull { i -> merges[pairOf(ids[i], ids[i + 1])]?.let { i to it } }
                .minByOrNull { (_, merge) -> merge[0] } ?: return ids
            ids[best.first] = best.second[1].toInt()
            ids.removeAt(best.first + 1)
        }
    }

    companion object {
        private const val LAST = "</w>"

        /** A byte as the visible letter that GPT-2's vocabularies have for it. */
        private val LETTERS: List<String> = run {
            var next = 256
            List(256) { byte -> textOf(if (byte in 33..126 || byte in 161..172 || byte in 174..255) byte else next++) }
        }

        private fun pairOf(first: Int, second: Int) = (first.toLong() shl 32) or second.toLong()

        private val ENDINGS = listOf("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")

        /** Where the word that begins at a place ends, as CLIP's own expression cuts words; the place itself for a space. */
        private fun endOfWord(text: String, place: Int): Int {
            ENDINGS.firstOrNull { text.startsWith(it, place) }?.let { return place + it.length }
            val first = text.codePointAt(place)
            if (isNumber(first)) return place + Character.charCount(first)
            val letters = Character.isLetter(first)
            var end = place
            while (end < text.length) {
                val next = text.codePointAt(end)
                val goesOn = if (letters) Character.isLetter(next)
                else !isWhiteSpace(next) && !Character.isLetter(next) && !isNumber(next)
                if (!goesOn) break
                end += Character.charCount(next)
            }
            return end
        }
    }
}

/** A composed text cut before and after folded words, the longest of which is looked for first. */
internal fun pieces(text: String, words: Collection<String>): List<String> {
    val longestFirst = words.filter { it.isNotEmpty() }.sortedByDescending { it.length }
    val small = fold(text)
    val pieces = mutableListOf<String>()
    var end = 0
    var place = 0
    while (place < small.length) {
        val word = longestFirst.firstOrNull { small.startsWith(it, place) }
        if (word == null) {
            place++
            continue
        }
        pieces += listOf(text.substring(end, place), text.substring(place, place + word.length))
        place += word.length
        end = place
    }
    return pieces + text.substring(end)
}

/** Those of some words that a prompt has, in any letters; a word inside of a longer one does not count. */
fun wordsIn(prompt: String, words: Collection<String>): List<String> {
    val folded = words.associateBy(::fold)
    val parts = pieces(composed(prompt), folded.keys).map(::fold).toSet()
    return folded.filterKeys { it in parts }.values.toList()
}
