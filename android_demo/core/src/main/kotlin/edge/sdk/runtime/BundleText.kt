package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import java.io.File

/**
 * The text side of a bundle: its tokenizers as one, and rows of its embedding tables. The twin of
 * edge_sdk/runtime/onnx/text.py. For SDXL the rows of both tokenizers stand side by side.
 *
 * @throws EdgeSdkException a tokenizer cannot be read, or its marks are not those that the manifest says.
 */
class BundleText(val bundle: Bundle) {
    val tokenizers: List<Tokenizer> = bundle.manifest.embedding.zip(bundle.manifest.tokens) { part, marks ->
        val folder = File(bundle.folder, marks.folder)
        Tokenizer(folder, part.vocabSize, marks.length).also {
            if (listOf(it.bos, it.eos, it.pad) != listOf(marks.bos, marks.eos, marks.pad)) {
                throw EdgeSdkException(
                    "$folder marks beginning, end and padding with ${it.bos}, ${it.eos}, ${it.pad}, and manifest.json " +
                        "says otherwise; $AGAIN",
                )
            }
        }
    }

    /** A prompt as a row of ids, (T,), see [Tokenizer.row]. */
    fun row(prompt: String, placeholders: Map<String, Int> = emptyMap()): LongArray =
        tokenizers.map { it.row(prompt, placeholders) }.reduce { all, row -> all + row }

    /** Throws [EdgeSdkException] if the placeholder is not one word, or already a word of a vocabulary. */
    fun checkPlaceholder(placeholder: String) {
        if (placeholder.isEmpty() || placeholder.any(::isPythonSpace))
            throw EdgeSdkException("placeholder_token is ${ascii(placeholder)}; it must be one word without spaces")
        tokenizers.forEach { it.checkPlaceholder(placeholder) }
    }

    /**
     * The initializer's rows of all tables side by side, once per vector, (K, D); not divided by the scale.
     *
     * @throws EdgeSdkException the initializer is not exactly one token.
     */
    fun initialEmbedding(initializer: String, numVectors: Int): FloatArray {
        val parts = tokenizers.mapIndexed { i, tokenizer -> bundle.vector(i, tokenizer.word(initializer)) }
        val vector = parts.reduce { all, part -> all + part }
        return FloatArray(numVectors * vector.size) { vector[it % vector.size] }
    }

    /**
     * Training prompts of a kind, "object" or "style", with the placeholder in its place, as the manifest has them.
     *
     * @throws EdgeSdkException the bundle has none of this kind.
     */
    fun trainingPrompts(kind: String, placeholder: String): List<String> {
        val prompts = bundle.manifest.prompts
        val name = if (bundle.isPocket) "pocket" else kind
        val own = prompts[name]
            ?: throw EdgeSdkException("${bundle.folder} has no prompts for $name; it has ${prompts.keys.sorted().joinToString(", ")}")
        return own.map { it.text.replace("{}", placeholder) }
    }
}
