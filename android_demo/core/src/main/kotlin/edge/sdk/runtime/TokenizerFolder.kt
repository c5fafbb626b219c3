package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.oneLine
import java.io.File
import java.io.IOException

internal const val BEGIN = "<|startoftext|>"
internal const val END = "<|endoftext|>"
private const val AGAIN_TOKENIZER = "download the model again"
private const val MOST_ID = 1L shl 24

/** A token beside the vocabulary, which is looked for in texts before they are cut into words. */
internal class AddedToken(val content: String, val special: Boolean, normalized: Boolean?, val singleWord: Boolean) {
    /** Whether it is looked for in the prepared text, not in the text as it is. */
    val normalized = normalized ?: !special
}

/**
 * The folder of CLIP's tokenizer, read as transformers 5 reads it; the twin of edge_sdk/diffusion/tokenizer_folder.py.
 *
 * @property vocabulary token to id.
 * @property merges pairs of tokens, the most frequent first.
 * @property added in the order in which they are added.
 * @property pad the word that fills prompts up.
 */
internal class TokenizerFolder private constructor(
    val vocabulary: Map<String, Int>,
    val merges: List<Pair<String, String>>,
    val added: List<AddedToken>,
    val pad: String,
) {
    companion object {
        /** @throws EdgeSdkException a file is missing or damaged. */
        fun read(folder: File): TokenizerFolder = try {
            Reader(folder).read()
        } catch (error: IOException) {
            throw unusable(folder, error)
        } catch (error: IllegalArgumentException) {
            throw unusable(folder, error)
        }

        private fun unusable(folder: File, error: Exception) =
            EdgeSdkException("$folder cannot be read as CLIP's tokenizer (${oneLine(error)}); $AGAIN_TOKENIZER", error)
    }

    private class Reader(private val folder: File) {
        fun read(): TokenizerFolder {
            val config = entriesOf("tokenizer_config.json", CONFIG)
            val listed = config["added_tokens_decoder"]?.asObject()?.mapKeys { (number, _) -> numberOf(number) }
            val files = if (listed == null) listOf(config, entriesOf("special_tokens_map.json", SPECIAL)) else listOf(config)
            val named = NAMES.toMutableMap<String, Any?>()
            val further = mutableListOf<JsonObject>()
            for (entries in files) {
                NAMES.keys.filter { it in entries }.forEach { named[it] = entries[it] }
                val words = FURTHER.firstNotNullOfOrNull { name -> entries[name]?.takeUnless(::isEmpty) }
                further += (if (words is Map<*, *>) words.values else words as? List<*>).orEmpty().map { special(it) }
            }
            val tokens = named.values.filterNotNull().map { special(it) }
            val content = if (exists("tokenizer.json") || !exists("vocab.json")) contentOf() else null
            val byNumber = listed?.mapValues { it.value.asObject() } ?: beside(tokens + further, content)
            val (vocabulary, merges) = content?.let(::ofContent) ?: ofFiles()
            val pad = named["pad_token"]?.let { special(it).text("content") } ?: END
            return TokenizerFolder(vocabulary, merges, inOrder(byNumber, tokens, further), pad)
        }

        private fun inOrder(byNumber: Map<Long, JsonObject>, named: List<JsonObject>, further: List<JsonObject>): List<AddedToken> {
            val all = LinkedHashMap<String, JsonObject>()
            for ((_, token) in byNumber.toSortedMap()) all[token.text("content")] = token
            for (token in named) all.computeIfPresent(token.text("content")) { _, known -> known + ("special" to true) }
            for (token in named + further) all.putIfAbsent(token.text("content"), token)
            return all.values.map {
                AddedToken(it.text("content"), it["special"] == true, it["normalized"] as Boolean?, it["single_word"] == true)
            }
        }

        /** The tokens that added_tokens.json and tokenizer.json list, by number. */
        private fun beside(special: List<JsonObject>, content: JsonObject?): Map<Long, JsonObject> {
            val words = special.map { it.text("content") }.toSet()
            val all = entriesOf("added_tokens.json", Named(Whole(0, MOST_ID))).entries.associate { (word, number) ->
                number as Long to mapOf("content" to word, "normalized" to (word !in words), "special" to (word in words))
            }
            return all + (content?.get("added_tokens") as List<*>?).orEmpty().map { it.asObject() }.associateBy { it.long("id") }
        }

        private fun contentOf(): JsonObject = Json.readObject(File(folder, "tokenizer.json"), AGAIN_TOKENIZER, Json.MOST_TOKENIZER_BYTES)
            .also { check(it, WHOLE) }

        private fun ofContent(content: JsonObject): Pair<Map<String, Int>, List<Pair<String, String>>> {
            val model = content.entries("model")
            val merges = (model["merges"] as List<*>?).orEmpty().map { pair(if (it is String) it.split(' ') else it as List<*>) }
            return model.entries("vocab").mapValues { (_, id) -> (id as Long).toInt() } to merges
        }

        private fun ofFiles(): Pair<Map<String, Int>, List<Pair<String, String>>> {
            val lines = decodeUtf8(readBytes(File(folder, "merges.txt"), Json.MOST_TOKENIZER_BYTES)).lines()
            val merges = lines.filter { line -> !line.all(::isPythonSpace) && !line.startsWith("#version") }
                .map { line -> pair(line.split(' ', '\t').filter { it.isNotEmpty() }) }
            val vocabulary = Json.readObject(File(folder, "vocab.json"), AGAIN_TOKENIZER, Json.MOST_TOKENIZER_BYTES)
            check(vocabulary, Named(Whole(0, MOST_ID)))
            return vocabulary.mapValues { (_, id) -> (id as Long).toInt() } to merges
        }

        private fun pair(parts: List<*>): Pair<String, String> {
            require(parts.size == 2) { "a merge has ${parts.size} parts, not 2" }
            return parts[0] as String to parts[1] as String
        }

        private fun exists(name: String) = File(folder, name).exists()

        /** The entries of a file; none where it is not there. */
        private fun entriesOf(name: String, kind: Kind): JsonObject {
            if (!exists(name)) return emptyMap()
            return Json.readObject(File(folder, name), AGAIN_TOKENIZER).also { check(it, kind) }
        }

        private fun numberOf(number: String): Long = number.toLongOrNull()?.takeIf { it in 0..MOST_ID }
            ?: throw IllegalArgumentException("added_tokens_decoder has the number ${ascii(number)}")

        private fun special(word: Any?): JsonObject =
            (if (word is String) mapOf("content" to word) else word.asObject()) + ("special" to true)

        private fun isEmpty(words: Any) = if (words is Map<*, *>) words.isEmpty() else (words as List<*>).isEmpty()
    }
}

/** The special tokens by name, in the order in which they are added, and what they are where a folder does not say. */
private val NAMES: Map<String, String?> = linkedMapOf(
    "bos_token" to BEGIN,
    "eos_token" to END,
    "unk_token" to END,
    "sep_token" to null,
    "pad_token" to END,
    "cls_token" to null,
    "mask_token" to null,
)
private val FURTHER = listOf("extra_special_tokens", "additional_special_tokens") // lists of special tokens without names
private val TOKEN = Entries(
    mapOf("content" to Text) + listOf("single_word", "lstrip", "rstrip", "normalized", "special").associateWith { Maybe(Flag) },
)
private val WORD = Either(Text, TOKEN)
private val SPECIAL = Entries(
    NAMES.keys.associateWith { Maybe(Either(Text, TOKEN, Null)) } +
        FURTHER.associateWith { Maybe(Either(Many(WORD, 0, 1 shl 16), Named(WORD), Null)) },
)
private val CONFIG = Entries(SPECIAL.entries + ("added_tokens_decoder" to Maybe(Either(Named(TOKEN), Null))))
private val WHOLE = Entries(
    "model" to Entries(
        "type" to Maybe(OneOf("BPE")),
        "vocab" to Named(Whole(0, MOST_ID)),
        "merges" to Maybe(Many(Either(Text, Many(Text, 2, 2)))),
    ),
    "added_tokens" to Maybe(Many(Entries(TOKEN.entries + ("id" to Whole(0, MOST_ID))))),
)
