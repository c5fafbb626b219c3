package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.oneLine
import java.io.File

/**
 * A placeholder token and its vectors, as stock diffusers reads it: one tensor, its key the placeholder; for SDXL two,
 * `clip_l` and `clip_g`, one a text encoder, and the placeholder in the metadata. The twin of edge_sdk/embedding.py.
 *
 * @property vectors K D numbers; for SDXL both encoders' parts side by side
 * @property widths of the parts of a vector, one a text encoder
 * @property metadata where it comes from; never anything about the photos
 */
class LearnedEmbedding(
    val token: String,
    val vectors: FloatArray,
    val widths: IntArray,
    val metadata: Map<String, String> = emptyMap(),
) {
    /** K. */
    val numVectors = vectors.size / widths.sum()

    init {
        require(vectors.isNotEmpty() && vectors.size % widths.sum() == 0) { "${vectors.size} numbers are no vectors" }
    }

    /**
     * The bytes of `learned_embeds.safetensors`.
     *
     * @throws EdgeSdkException a number is not finite
     */
    fun toBytes(): ByteArray {
        if (!vectors.all { it.isFinite() }) {
            throw EdgeSdkException("the embedding of $token holds a number that is not finite")
        }
        val about = metadata + ("format" to "pt") + (if (widths.size > 1) mapOf(TOKEN to token) else emptyMap())
        val names = if (widths.size > 1) XL_KEYS else listOf(token)
        val tensors = names.indices.associate { names[it] to StoredTensor.of(part(it), numVectors, widths[it]) }
        return Safetensors(about.toSortedMap(), tensors.toSortedMap()).toBytes { compact(it.toSortedMap()) }
    }

    /** The vectors of one text encoder. */
    private fun part(encoder: Int): FloatArray {
        val (whole, width) = widths.sum() to widths[encoder]
        val start = widths.take(encoder).sum()
        return FloatArray(numVectors * width) { vectors[it / width * whole + start + it % width] }
    }

    companion object {
        private val XL_KEYS = listOf("clip_l", "clip_g") // of the parts for SDXL's first and second text encoder
        private const val TOKEN = "placeholder_token" // of the metadata
        private const val A1111_KEY = "emb_params" // of web UIs, which take the name of the file for the word
        private const val MOST_BYTES = 64 shl 20

        /**
         * Reads what [toBytes], Python, diffusers or a web UI wrote.
         *
         * @param name of the file: for messages, and for the word where a web UI wrote it
         * @throws EdgeSdkException it is damaged, or no learned embedding of a placeholder
         */
        fun parse(bytes: ByteArray, name: String): LearnedEmbedding {
            val file = try {
                require(bytes.size <= MOST_BYTES) { "it is larger than ${MOST_BYTES shr 20} MB" }
                Safetensors.parse(bytes, setOf("F32", "F16", "BF16", "F64"))
            } catch (error: RuntimeException) {
                throw EdgeSdkException("$name is cut short or damaged (${oneLine(error, 120)}); copy it again", error)
            }
            val metadata = file.metadata.filterValues { it is String }.mapValues { it.value as String }
            val isXl = file.tensors.keys == XL_KEYS.toSet()
            val key = if (isXl) metadata[TOKEN] ?: A1111_KEY else file.tensors.keys.singleOrNull()
            val token = if (key == A1111_KEY) File(name).nameWithoutExtension else key
            val parts = file.tensors.toSortedMap(compareBy { XL_KEYS.indexOf(it) }).values.map(::rowsOf)
            if (token == null || !isWord(token) || parts.any { it == null || it.size != parts[0]!!.size }) {
                throw EdgeSdkException("$name is no learned embedding; choose a learned_embeds.safetensors of edge-sdk")
            }
            val rows = parts.map { it!! }
            val vectors = rows[0].indices.flatMap { k -> rows.flatMap { it[k].asList() } }
            return LearnedEmbedding(token, vectors.toFloatArray(), IntArray(rows.size) { rows[it][0].size }, metadata)
        }

        /** The vectors of a tensor (K, D) or (D,); null if it has another shape or a number that is not finite. */
        private fun rowsOf(tensor: StoredTensor): List<FloatArray>? {
            val all = tensor.toFloats()
            if (tensor.shape.size !in 1..2 || all.isEmpty() || !all.all { it.isFinite() }) return null
            val width = tensor.shape.last()
            return List(all.size / width) { all.copyOfRange(it * width, (it + 1) * width) }
        }

        /** Whether a text can be typed and seen: characters that Python calls printable, and not blank. */
        private fun isWord(text: String): Boolean =
            text.isNotBlank() && text.codePoints().allMatch { it == ' '.code || Character.getType(it) !in UNSEEN }

        private val UNSEEN = listOf(
            Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.PRIVATE_USE, Character.UNASSIGNED,
            Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR, Character.SPACE_SEPARATOR,
        ).map { it.toInt() }
    }
}

/** JSON without spaces, with letters beyond ASCII as they are: the header that the library safetensors writes. */
private fun compact(value: Any?): String = when (value) {
    is Map<*, *> -> value.entries.joinToString(",", "{", "}") { (name, each) -> "${compact(name)}:${compact(each)}" }
    is List<*> -> value.joinToString(",", "[", "]", transform = ::compact)
    is String -> value.toList().joinToString("", "\"", "\"") { letter ->
        if (letter < ' ' || letter in "\"\\") Json.write("$letter").drop(1).dropLast(1) else "$letter"
    }
    else -> value.toString()
}
