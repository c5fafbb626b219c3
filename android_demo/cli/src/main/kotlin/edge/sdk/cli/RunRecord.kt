package edge.sdk.cli

import edge.sdk.measure.Memory
import edge.sdk.ort.OrtLoader
import edge.sdk.runtime.FitOptions
import edge.sdk.runtime.JsonObject
import edge.sdk.runtime.Personalizer
import java.math.BigDecimal
import java.math.RoundingMode

private const val SCHEMA_VERSION = 1

/**
 * `run.json`: what a run says of itself, with the keys of edge_sdk/run_log.py.
 *
 * @param resumed steps of earlier processes
 * @param peak of memory; null where the system does not tell
 */
internal fun runRecord(
    command: String,
    personalizer: Personalizer,
    options: FitOptions,
    arguments: Arguments,
    photos: PhotoFolder,
    resumed: Int,
    peak: Memory?,
): JsonObject {
    val (state, manifest) = personalizer.state!! to personalizer.bundle.manifest
    val forwards = linkedMapOf(
        "floor of mu" to 0L, // measured at the export
        "held-out losses" to personalizer.heldOutForwards.toLong(),
        "steps" to state.forwards,
        "preview" to 0L, // there is none
        "validation" to 0L,
    )
    return linkedMapOf(
        "schema_version" to SCHEMA_VERSION,
        "command" to command,
        "model" to manifest.name,
        "weights" to manifest.weights,
        "execution" to manifest.execution,
        "residency" to "mapped",
        "device" to "cpu",
        "preset" to options.preset,
        "steps" to state.step,
        "max_batch" to personalizer.rows,
        "unet_forwards" to state.forwards,
        "seconds" to rounded(state.seconds, 3),
        "peak_rss_mb" to peak?.let { rounded(it.resident, 1) },
        "peak_anon_mb" to peak?.let { rounded(it.anonymous, 1) },
        "loss_initial" to personalizer.lossInitial,
        "loss_final" to personalizer.lossFinal,
        "loss_draws" to personalizer.lossDraws,
        "variance_share" to personalizer.varianceShare,
        "mu_min" to state.muMin.takeIf { it.isFinite() },
        "mu_forwards" to 0,
        "mu_source" to personalizer.muSource,
        "forwards" to forwards.values.sum(),
        "forwards_of" to forwards,
        "seed" to options.seed,
        "resumed" to resumed,
        "photos_used" to photos.photos.size,
        "photos_skipped" to photos.skipped.size,
        "config" to config(options, arguments),
        "zo" to state.config.toJson(),
        "versions" to linkedMapOf(
            "edge-sdk" to VERSION,
            "kotlin" to KotlinVersion.CURRENT.toString(),
            "java" to System.getProperty("java.version"),
            "onnxruntime" to OrtLoader.version(),
        ),
    )
}

private fun config(options: FitOptions, arguments: Arguments) = linkedMapOf(
    "schema_version" to SCHEMA_VERSION,
    "placeholder_token" to (arguments.text("placeholder_token") ?: PLACEHOLDER),
    "initializer_token" to arguments.text("initializer_token"),
    "learnable_property" to options.learnableProperty,
    "num_vectors" to options.numVectors,
    "resolution" to null,
    "center_crop" to options.centerCrop,
    "use_captions" to false,
    "activations" to "16", // a bundle decides it; the value that Python's record has beside one
    "preset" to options.preset,
    "search_basis" to null,
    "max_batch" to options.maxBatch,
    "eval_draws" to options.evalDraws,
    "checkpointing_steps" to options.checkpointingSteps,
    "stop_when_flat" to options.stopWhenFlat,
    "seed" to options.seed,
    "zo_options" to options.settings + options.maxTrainSteps?.let { mapOf(MAX_TRAIN_STEPS to it) }.orEmpty(),
)

private fun rounded(value: Double, digits: Int) = BigDecimal(value).setScale(digits, RoundingMode.HALF_EVEN).toDouble()
