package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.photos.Photo
import edge.sdk.zo.Noise
import edge.sdk.zo.Stream

/** A generated picture. */
typealias Picture = Photo

/**
 * How pictures are generated.
 *
 * @property negativePrompt what to keep away from
 * @property seed picture i starts from the same noise, however many are generated
 * @throws EdgeSdkException a number is out of range
 */
class GenerateOptions(
    val negativePrompt: String = "",
    val numImages: Int = 1,
    val numInferenceSteps: Int = 25,
    val guidanceScale: Double = 4.0,
    val seed: ULong = 0u,
) {
    init {
        for ((name, value) in listOf("num_images" to numImages, "num_inference_steps" to numInferenceSteps))
            if (value !in 1..1000) throw EdgeSdkException("$name is $value; it must be from 1 to 1000")
        if (!guidanceScale.isFinite()) throw EdgeSdkException("guidance_scale is $guidanceScale; it must be a finite number")
    }
}

/**
 * Pictures from a prompt and learned embeddings by DDIM (Song et al., 2021) with classifier-free guidance; the twin of
 * edge_sdk/runtime/onnx/generate.py. Text encoder, denoiser and VAE are open one after the other.
 */
class Generator(private val bundle: Bundle, private val graphs: GraphLoader) {
    private val manifest = bundle.manifest
    private val size = manifest.latents.fold(1, Int::times)

    /**
     * Generates pictures.
     *
     * @param embeddings whose tokens may be used in prompt and negative prompt, in any letters
     * @param onProgress is called with denoising steps and decoded pictures that are done, and how many there are; false
     *   ends it, and no picture is returned
     * @return [GenerateOptions.numImages] pictures
     * @throws EdgeSdkException an embedding is of another width than the model, two are for one token, the prompt is too
     *   long, or a picture is not finite
     */
    fun generate(
        prompt: String,
        embeddings: List<LearnedEmbedding> = emptyList(),
        options: GenerateOptions = GenerateOptions(),
        onProgress: (done: Int, total: Int) -> Boolean = { _, _ -> true },
    ): List<Picture> {
        val sampler = Ddim.of(manifest)
        val steps = minOf(options.numInferenceSteps, sampler.maxSteps)
        val total = options.numImages * (steps + 1)
        var done = 0
        check(embeddings)
        val conditioning = conditioning(prompt, embeddings, options)
        val latents = graphs.open(bundle, "unet").use { unet ->
            List(options.numImages) { i ->
                val noise = Noise.normals(options.seed, Stream.NOISE, i.toLong(), size)
                val predict = { z: FloatArray, t: Int -> predicted(unet, z, t, conditioning, options.guidanceScale) }
                sampler.denoise(noise, steps, predict, goOn = { onProgress(done++, total) }) ?: return emptyList()
            }
        }
        return graphs.open(bundle, "vae_decoder").use { decoder ->
            latents.map { z ->
                if (!onProgress(done++, total)) return emptyList()
                decoded(decoder, z)
            }
        }.also { onProgress(total, total) }
    }

    private fun check(embeddings: List<LearnedEmbedding>) {
        for (embedding in embeddings) {
            if (!embedding.widths.contentEquals(bundle.widths)) {
                throw EdgeSdkException(
                    "the embedding of ${embedding.token} is ${embedding.widths.joinToString(" + ")} wide and this model takes " +
                        "${bundle.widths.joinToString(" + ")}; use it with the model it was learned on",
                )
            }
        }
        embeddings.groupBy { fold(it.token) }.values.firstOrNull { it.size > 1 }?.let {
            throw EdgeSdkException(
                "two embeddings have the same token, ${it[0].token} in any letters; give each token once, or rename a file",
            )
        }
    }

    /** What the denoiser is given beside latents and timestep; with guidance the negative prompt's row first. */
    private fun conditioning(prompt: String, embeddings: List<LearnedEmbedding>, options: GenerateOptions): Map<String, FloatTensor> {
        val text = BundleText(bundle)
        val guides = options.guidanceScale > 1
        val placeholders = embeddings.associate { it.token to it.numVectors }
        val prompts = if (guides) listOf(options.negativePrompt, prompt) else listOf(prompt)
        val rows = prompts.map { text.row(it, placeholders) }
        // The graph takes at least one vector; without embeddings no id refers to it.
        val vectors = embeddings.map { it.vectors }.ifEmpty { listOf(FloatArray(bundle.scale.size)) }.reduce { all, one -> all + one }
        val inputs = mapOf(
            "input_ids" to LongTensor(intArrayOf(rows.size, rows[0].size), rows.reduce { all, row -> all + row }),
            "learned" to FloatTensor(intArrayOf(vectors.size / bundle.scale.size, bundle.scale.size), vectors),
        )
        val outputs = graphs.open(bundle, "text_encoder").use { it.run(inputs, manifest.graphs.getValue("text_encoder").outputs.keys.toList()) }
        if (!bundle.isXl) return outputs
        if (guides && options.negativePrompt.isEmpty() && manifest.zeroNegative)
            outputs.values.forEach { it.data.fill(0f, 0, it.data.size / 2) }
        return outputs + ("sizes" to timeIds(List(rows.size) { intArrayOf(manifest.resolution, manifest.resolution) }, manifest.resolution))
    }

    private fun predicted(unet: Graph, z: FloatArray, t: Int, conditioning: Map<String, FloatTensor>, scale: Double): FloatArray {
        val rows = if (scale > 1) 2 else 1
        val sample = FloatTensor(intArrayOf(rows, *manifest.latents.toIntArray()), FloatArray(rows * size) { z[it % size] })
        val timestep = LongTensor(intArrayOf(rows), LongArray(rows) { t.toLong() })
        val output = unet.run(conditioning + mapOf("sample" to sample, "timestep" to timestep), listOf("predicted")).getValue("predicted").data
        return if (rows == 1) output else guided(output.copyOfRange(0, size), output.copyOfRange(size, 2 * size), scale)
    }

    private fun decoded(decoder: Graph, z: FloatArray): Picture {
        val side = manifest.resolution
        val latents = FloatTensor(intArrayOf(1, *manifest.latents.toIntArray()), z)
        val pixels = decoder.run(mapOf("latents" to latents), listOf("pixels")).getValue("pixels").data
        if (!pixels.all { it.isFinite() }) {
            throw EdgeSdkException(
                "the model computed a picture that is not finite, so none is written; check its scheduler's config and its " +
                    "weights, or take fewer steps",
            )
        }
        return Photo.ofPixels(side, side, pixels)
    }
}
