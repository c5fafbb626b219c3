package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.zo.ZoConfig

/** What an error about a bundle ends with: what to do. */
internal const val AGAIN = "make the bundle again with edge-sdk export"

/** What a text encoder's part of a learned vector is, and where its embedding table lies. */
class EmbeddingPart(entry: JsonObject) {
    /** Numbers of a vector. */
    val width = entry.int("width")

    /** Rows of the table. */
    val vocabSize = entry.int("vocab_size")

    /** A vector is this times the optimizer's variable. */
    val scale = entry.real("scale")

    /** Least and largest norm of the variable. */
    val normRange = entry.reals("norm_range").let { (low, high) -> low to high }
    private val table = entry.entries("table")
    val file = table.text("file")

    /** Bytes before the table's first row. */
    val offset = table.long("offset")

    /** "float16" or "float32", little-endian. */
    val dtype = table.text("dtype")
    val bytesOfNumber = if (dtype == "float16") 2 else 4
}

/** The marks of a row of token ids, and the folder of the tokenizer. */
class TokenMarks(entry: JsonObject) {
    val bos = entry.int("bos")
    val eos = entry.int("eos")
    val pad = entry.int("pad")

    /** Ids of a row, the marks of beginning and end included. */
    val length = entry.int("length")
    val folder = entry.text("folder")
}

/** A training prompt, with `{}` where the placeholder stands; ids around it, a list a text encoder. */
class ManifestPrompt(entry: JsonObject) {
    val text = entry.text("text")
    val before = entry.list("before").map { (it as List<*>).ints() }
    val after = entry.list("after").map { (it as List<*>).ints() }
}

/** A graph's file, and its inputs and outputs: name to sizes, in which a text stands for any size. */
class GraphEntry(entry: JsonObject) {
    val file = entry.text("file")
    val inputs = tensors(entry.entries("inputs"))
    val outputs = tensors(entry.entries("outputs"))

    /** Sizes and type of a tensor; a size is null where it is free. */
    class TensorEntry(val shape: List<Int?>, val dtype: String)

    private fun tensors(all: JsonObject) = all.mapValues { (_, each) ->
        @Suppress("UNCHECKED_CAST")
        val one = each as JsonObject
        TensorEntry(one.list("shape").map { (it as? Long)?.toInt() }, one.text("dtype"))
    }
}

/** A processor that graphs are made for. Their sizes are fixed. */
class Target(entry: JsonObject) {
    /** "qnn" or "ane". */
    val name = entry.text("name")

    /** Rows of a call of `zo_loss`. */
    val rows = entry.int("rows")

    /** Of a token. */
    val vectors = entry.int("vectors")
}

/** A file that the manifest lists. */
class FileEntry(entry: JsonObject) {
    /** "graph", "weights", "directions", "tokenizer" or "golden". */
    val role = entry.text("role")
    val bytes = entry.long("bytes")
    val sha256 = entry.text("sha256")
}

/**
 * `manifest.json` of a bundle, as export/README.md describes it; the twin of edge_sdk/runtime/onnx/manifest.py.
 *
 * @param where the file's name, for messages.
 * @throws EdgeSdkException one line naming the first entry that is missing or wrong.
 */
class Manifest(value: Any?, where: String) {
    private val root = checkManifest(value, where)
    val format = root.text("format")

    /** The processor that the graphs are made for, or null for any. */
    val target = root["target"]?.let { Target(it.asObject()) }
    private val model = root.entries("model")
    val name = model.text("name")

    /** Of the source's files. */
    val modelSha256 = model.text("sha256")

    /** "pocket", "stable-diffusion" or "stable-diffusion-xl". */
    val family = model.text("family")

    /** "int8", "int4" or "none". */
    val weights = root.text("weights")
    val execution = root.text("execution")

    /** "epsilon", "v_prediction" or "flow". */
    val predictionType = root.text("prediction_type")

    /** Side of a picture in pixels. */
    val resolution = root.int("resolution")

    /** (C, h, w). */
    val latents = root.list("latents").ints()
    val embedding = root.list("embedding").map { EmbeddingPart(it.asObject()) }
    val vocabularyStd = root.real("vocabulary_std")
    private val principal = root.entries("principal_directions")
    val principalFile = principal.text("file")
    val principalCount = principal.int("count")

    /** Of the words' variance, what all directions hold together; null in older bundles. */
    val varianceShare = (principal["variance_share"] as? Number)?.toDouble()
    val initializerToken = root["initializer_token"] as String?

    /** Words that are one token, with their ids, one a text encoder. */
    val initializers = root.entries("initializers").mapValues { (_, ids) -> (ids as List<*>).ints() }

    /** Settings of the optimizer by preset, "fast" and "paper". */
    val presets = root.entries("presets").mapValues { (_, preset) -> presetOf(preset.asObject()) }

    /** Draws on which the loss is measured before and after, by preset. */
    val evalDraws = root.entries("presets").mapValues { (_, preset) -> preset.asObject().int("eval_draws") }

    /** SDXL only: an empty negative prompt stands for zeros. */
    val zeroNegative = root["force_zeros_for_empty_prompt"] as Boolean? ?: true
    val prompts = root.entries("prompts").mapValues { (_, all) -> (all as List<*>).map { ManifestPrompt(it.asObject()) } }
    val tokens = root.list("tokens").map { TokenMarks(it.asObject()) }
    val scheduler = root.entries("scheduler")
    val graphs = root.entries("graphs").mapValues { (_, graph) -> GraphEntry(graph.asObject()) }

    /** Settings by runtime. */
    val runtime = root.entries("runtime").mapValues { (_, settings) -> settings.asObject() }
    val files = root.entries("files").mapValues { (_, file) -> FileEntry(file.asObject()) }

    /** The smallest mu that the graph resolves; infinite if none was found, null in older bundles. */
    val muMin = if ("mu_min" in root) (root["mu_min"] as Number?)?.toDouble() ?: Double.POSITIVE_INFINITY else null
}

internal fun presetOf(entry: JsonObject): ZoConfig {
    ZoConfig.settings.firstOrNull { it.name !in entry }?.let { throw EdgeSdkException("${it.name} is missing") }
    return ZoConfig.fromJson(entry - "eval_draws")
}

// Entries of an object that was checked.
@Suppress("UNCHECKED_CAST")
internal fun Any?.asObject() = this as JsonObject

internal fun JsonObject.entries(name: String) = getValue(name).asObject()
internal fun JsonObject.list(name: String) = getValue(name) as List<*>
internal fun JsonObject.text(name: String) = getValue(name) as String
internal fun JsonObject.long(name: String) = getValue(name) as Long
internal fun JsonObject.int(name: String) = long(name).toInt()
internal fun JsonObject.real(name: String) = (getValue(name) as Number).toDouble()
internal fun JsonObject.reals(name: String) = list(name).map { (it as Number).toDouble() }
internal fun List<*>.ints() = map { (it as Long).toInt() }
