package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.oneLine

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
        private const val MOST_BYTES = 64 shl 20

        /**
         * Reads what [toBytes] or Python wrote.
         *
         * @param name of the file, for messages
         * @throws EdgeSdkException it is damaged, or no learned embedding of a placeholder
         */
        fun parse(bytes: ByteArray, name: String): LearnedEmbedding {
            val file = try {
                require(bytes.size <= MOST_BYTES) { "it is larger than ${MOST_BYTES shr 20} MB" }
                Safetensors.parse(bytes, setOf("F32"))
            } catch (error: RuntimeException) {
                throw EdgeSdkException("$name is cut short or damaged (${oneLine(error, 120)}); copy it again", error)
            }
            val metadata = file.metadata.filterValues { it is String }.mapValues { it.value as String }
            val isXl = file.tensors.keys == XL_KEYS.toSet()
            val token = if (isXl) metadata[TOKEN] else file.tensors.keys.singleOrNull()
            val tensors = if (isXl) XL_KEYS.map(file.tensors::getValue) else file.tensors.values.toList()
            val count = tensors.firstOrNull()?.shape?.firstOrNull() ?: 0
            val fits = tensors.all { it.shape.size == 2 && it.shape[0] == count && it.bytes.isNotEmpty() }
            if (token.isNullOrBlank() || !fits || tensors.any { one -> !one.floats().all { it.isFinite() } }) {
                throw EdgeSdkException("$name is no learned embedding; choose a learned_embeds.safetensors of edge-sdk")
            }
            val widths = IntArray(tensors.size) { tensors[it].shape[1] }
            val rows = tensors.map { it.floats() }
            val vectors = (0 until count).flatMap { k ->
                tensors.indices.flatMap { i -> rows[i].slice(k * widths[i] until (k + 1) * widths[i]) }
            }
            return LearnedEmbedding(token, vectors.toFloatArray(), widths, metadata)
        }
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
