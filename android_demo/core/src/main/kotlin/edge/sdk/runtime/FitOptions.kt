package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.zo.LONGEST
import edge.sdk.zo.ZoConfig

/**
 * Settings of learning on a bundle that is open; the twin of edge_sdk/config.py.
 *
 * @property seed of every random number
 * @property preset "fast" or "paper", as the bundle has it
 * @property maxTrainSteps updates of the token; null: the preset's
 * @property stopWhenFlat ends once the held-out loss is flat, after three times the preset's steps at the latest
 * @property numVectors vectors that the word stands for
 * @property learnableProperty "object" or "style"; chooses the training prompts
 * @property centerCrop crops photos to a square before resizing; false: squeezes them
 * @property maxBatch rows a call of the denoiser; null: 1 to 16, by the size of the latents
 * @property evalDraws draws for the loss before and after, which training never uses; null: the bundle's own number
 * @property checkpointingSteps steps between checkpoints; null: about 150 forward passes
 * @property settings of [ZoConfig] that replace the preset's, by their names in JSON
 * @property resume bytes of a checkpoint to go on from
 * @property checkpoint is given the bytes of a checkpoint when one is due
 * @property notify is told, in one line each, what the user should know
 * @property onProgress is called with a stage's name, how much of it is done and how much there is (0: not counted)
 * @throws EdgeSdkException a value is out of range
 */
class FitOptions(
    val seed: ULong = 0u,
    val preset: String = "fast",
    val maxTrainSteps: Int? = null,
    val stopWhenFlat: Boolean = false,
    val numVectors: Int = 1,
    val learnableProperty: String = "object",
    val centerCrop: Boolean = true,
    val maxBatch: Int? = null,
    val evalDraws: Int? = null,
    val checkpointingSteps: Int? = null,
    val settings: Map<String, Any?> = emptyMap(),
    val resume: ByteArray? = null,
    val checkpoint: ((ByteArray) -> Unit)? = null,
    val notify: (String) -> Unit = {},
    val onProgress: (stage: String, done: Int, total: Int) -> Unit = { _, _, _ -> },
) {
    init {
        oneOf("preset", preset, "fast", "paper")
        oneOf("learnable_property", learnableProperty, "object", "style")
        within("num_vectors", numVectors, 1..64)
        within("max_batch", maxBatch, 1..4096)
        within("eval_draws", evalDraws, 1..65_536)
        within("checkpointing_steps", checkpointingSteps, 1..1_000_000_000)
    }

    /**
     * The optimizer's settings on a bundle.
     *
     * @throws EdgeSdkException a value is out of range, or the bundle has not these timesteps
     */
    internal fun config(manifest: Manifest): ZoConfig {
        val own = manifest.presets[preset] ?: throw EdgeSdkException(
            "preset is $preset; this bundle has ${manifest.presets.keys.sorted().joinToString(", ")}",
        )
        val longest = if (stopWhenFlat) own.copy(maxTrainSteps = LONGEST * own.maxTrainSteps) else own
        val steps = maxTrainSteps?.let { mapOf("max_train_steps" to it.toLong()) }.orEmpty()
        val config = longest.with(settings + steps)
        val timesteps = manifest.scheduler.int("num_train_timesteps")
        if (config.timestepRange.high > timesteps) {
            throw EdgeSdkException(
                "timestep_range is ${config.timestepRange}; this model has timesteps below $timesteps",
            )
        }
        return config
    }

    /** Rows a call: where latents are large, more at once cost memory and save little time. */
    internal fun rows(latents: List<Int>): Int =
        maxBatch ?: (ROW_LATENTS / (latents[1] * latents[2])).coerceIn(1, MOST_ROWS)

    private fun oneOf(name: String, value: String, vararg accepted: String) {
        if (value !in accepted) {
            throw EdgeSdkException("$name is ${ascii(value)}; it must be one of ${accepted.joinToString(", ")}")
        }
    }

    private fun within(name: String, value: Int?, range: IntRange) {
        if (value != null && value !in range) {
            throw EdgeSdkException("$name is $value; it must be from ${range.first} to ${range.last}")
        }
    }

    private companion object {
        const val MOST_ROWS = 16
        const val ROW_LATENTS = 8192 // h w of all rows of a call
    }
}
