package edge.sdk.runtime

import edge.sdk.EdgeSdkException

private const val SCHEMA_VERSION = 3L
private const val MOST_ELEMENTS = 1L shl 26 // of a tensor that a graph takes or gives; pixels of the largest picture are 50 million
private val ID = Whole(0, 1 shl 24)
private val NUMBER = Real()
private val TENSORS = Named(
    Entries(
        "shape" to Many(Either(Whole(1, MOST_ELEMENTS), Text), 0, 8),
        "dtype" to OneOf("float32", "int64", "int32"),
    ),
)
private val PRESET = Entries("schema_version" to Whole(1, 1000), "eval_draws" to Whole(1, 65_536))
private val TARGETS = mapOf("qnn" to "onnx", "ane" to "coreml") // a processor, and the format of its bundles
private val ENTRIES = Entries(
    "schema_version" to Whole(1, SCHEMA_VERSION),
    "created_by" to Text,
    "format" to OneOf("onnx", "coreml"),
    "target" to Maybe(
        Entries("name" to OneOf(*TARGETS.keys.toTypedArray()), "rows" to Whole(1, 4096), "vectors" to Whole(1, 64)),
    ),
    "model" to Entries(
        "name" to Text,
        "sha256" to Text,
        "family" to OneOf("pocket", "stable-diffusion", "stable-diffusion-xl"),
    ),
    "weights" to OneOf("int8", "int4", "none"),
    "execution" to Text,
    "prediction_type" to OneOf("epsilon", "v_prediction", "flow"),
    "resolution" to Whole(8, 4096),
    "latents" to Many(Whole(1, 4096)),
    "embedding" to Many(
        Entries(
            "width" to Whole(1, 1 shl 16),
            "vocab_size" to Whole(1, 1 shl 24),
            "scale" to NUMBER,
            "norm_range" to Many(NUMBER),
            "table" to Entries(
                "file" to Text,
                "offset" to Whole(0, 1L shl 48),
                "dtype" to OneOf("float16", "float32"),
                "shape" to Many(ID),
            ),
        ),
    ),
    "vocabulary_std" to NUMBER,
    "principal_directions" to Entries(
        "file" to Text,
        "count" to Whole(0, 1 shl 16),
        "width" to Whole(1, 1 shl 16),
        "variance_share" to Maybe(Real(0.0, 1.0)),
    ),
    "mu_min" to Maybe(Either(Real(0.0), Null)),
    "initializer_token" to Either(Text, Null),
    "initializer_id" to Either(Many(ID), Null),
    "initializers" to Named(Many(ID)),
    "presets" to Entries("fast" to PRESET, "paper" to PRESET),
    "force_zeros_for_empty_prompt" to Maybe(Flag),
    "prompts" to Named(Many(Entries("text" to Text, "before" to Many(Many(ID)), "after" to Many(Many(ID))))),
    "tokens" to Many(Entries("bos" to ID, "eos" to ID, "pad" to ID, "length" to Whole(3, 4096), "folder" to Text)),
    "scheduler" to Entries(
        "num_train_timesteps" to Whole(1, 100_000),
        "a" to Many(NUMBER),
        "b" to Many(NUMBER),
        "timestep_spacing" to OneOf("leading", "trailing", "linspace"),
        "steps_offset" to Whole(0, 100_000),
        "clip_sample" to Flag,
        "clip_sample_range" to NUMBER,
        "set_alpha_to_one" to Flag,
    ),
    "graphs" to Named(Entries("file" to Text, "function" to Maybe(Text), "inputs" to TENSORS, "outputs" to TENSORS)),
    "runtime" to Named(AnyObject),
    "files" to Named(Entries("role" to Text, "bytes" to Whole(0, 1L shl 48), "sha256" to Text)),
)

private val FUNCTION = Regex("[A-Za-z_][A-Za-z0-9_]{0,63}") // of a Core ML package

/**
 * The manifest as an object whose entries are all there and fit one another.
 *
 * @param where the file's name, for messages
 * @throws EdgeSdkException one line naming the first entry that is missing or wrong
 */
internal fun checkManifest(value: Any?, where: String): JsonObject {
    val version = (value as? Map<*, *>)?.get("schema_version")
    if (version != SCHEMA_VERSION)
        throw EdgeSdkException("$where has schema version ${ascii(version)}; this program reads $SCHEMA_VERSION; $AGAIN")
    try {
        check(value, ENTRIES)
        return value.asObject().also(::checkSizes)
    } catch (error: IllegalArgumentException) {
        throw EdgeSdkException("$where: ${error.message}; $AGAIN", error)
    }
}

/** Entries fit one another. */
private fun checkSizes(root: JsonObject) {
    val scheduler = root.entries("scheduler")
    val steps = scheduler.int("num_train_timesteps")
    val latents = root.list("latents").ints()
    val embedding = root.list("embedding").map { it.asObject() }
    val principal = root.entries("principal_directions")
    val encoders = if (root.entries("model").text("family") == "stable-diffusion-xl") 2 else 1
    require(latents.size == 3 && latents.drop(1).all { root.int("resolution") % it == 0 }) {
        "latents must be three sizes, the last two of which divide the resolution"
    }
    require(root.real("vocabulary_std") > 0) { "vocabulary_std must be above 0" }
    require(principal.int("count") > 0 && principal.int("width") == embedding.sumOf { it.int("width") }) {
        "principal_directions.count must be above 0, and width the sum of embedding's widths"
    }
    require(scheduler.list("a").size == steps && scheduler.list("b").size == steps) {
        "scheduler.a and scheduler.b must have num_train_timesteps values"
    }
    require(scheduler.int("steps_offset") < steps) { "scheduler.steps_offset must be from 0 to below num_train_timesteps" }
    require(embedding.size == encoders && root.list("tokens").size == encoders) {
        "embedding and tokens must be lists of as many text encoders"
    }
    val prompts = root.entries("prompts").values.map { it as List<*> }
    require(prompts.isNotEmpty() && prompts.all { each -> each.isNotEmpty() && each.all { "{}" in it.asObject().text("text") } }) {
        "a prompt's text must hold the placeholder's mark {}, and there must be a prompt"
    }
    checkIds(root, embedding.map { it.int("vocab_size") })
    embedding.forEachIndexed { i, one ->
        val range = one.reals("norm_range")
        val shape = one.entries("table").list("shape").ints()
        require(one.real("scale") > 0) { "embedding.$i.scale must be above 0" }
        require(range.size == 2 && 0 <= range[0] && range[0] <= range[1]) {
            "embedding.$i.norm_range must be a least and a largest norm"
        }
        require(shape == listOf(one.int("vocab_size"), one.int("width"))) {
            "embedding.$i.table.shape must be vocab_size, width"
        }
    }
    checkFunctions(root)
    checkTarget(root)
    checkTensors(root)
    for ((name, preset) in root.entries("presets")) {
        val zo = try {
            presetOf(preset.asObject())
        } catch (error: EdgeSdkException) {
            throw IllegalArgumentException("presets.$name: ${error.message}", error)
        }
        require(zo.timestepRange.high <= steps) { "presets.$name.timestep_range must end within num_train_timesteps" }
    }
}

/** Graphs of Core ML are functions of a package. */
private fun checkFunctions(root: JsonObject) {
    val isCoreml = root.text("format") == "coreml"
    val graphs = root.entries("graphs").mapValues { it.value.asObject() }
    for ((name, graph) in graphs) {
        val function = graph["function"] ?: continue
        require(isCoreml && FUNCTION.matches(function as String)) {
            "graphs.$name.function must be a name, and is for the format coreml only"
        }
    }
    require(!isCoreml || graphs.values.distinctBy { it.text("file") to (it["function"] ?: "main") }.size == graphs.size) {
        "graphs of the format coreml must be functions that differ"
    }
}

/** A bundle for one processor: its graphs have no free sizes. */
private fun checkTarget(root: JsonObject) {
    val target = Target((root["target"] ?: return).asObject())
    val format = TARGETS.getValue(target.name)
    require(root.text("format") == format) { "target.name ${target.name} is for the format $format only" }
    val graphs = root.entries("graphs").mapValues { GraphEntry(it.value.asObject()) }
    val shapes = graphs.values.flatMap { it.inputs.values + it.outputs.values }.map { it.shape }
    require(shapes.none { null in it }) { "graphs of a target must have numbers for sizes" }
    val inputs = graphs["zo_loss"]?.inputs.orEmpty()
    require(inputs["timestep"]?.shape == listOf(target.rows)) {
        "target.rows must be the size of graphs.zo_loss.inputs.timestep"
    }
    val learned = inputs["learned"]?.shape.orEmpty().filterNotNull()
    require(learned.size > 1 && learned.dropLast(1).fold(1L) { product, size -> product * size } == target.rows.toLong() * target.vectors) {
        "target.vectors must be the vectors of a row of graphs.zo_loss.inputs.learned"
    }
}

private fun checkIds(root: JsonObject, sizes: List<Int>) {
    for ((name, ids) in root.entries("initializers") + ("initializer_id" to root["initializer_id"])) {
        val fits = ids == null || (ids as List<*>).ints().let { all ->
            all.size == sizes.size && all.zip(sizes).all { (id, size) -> id < size }
        }
        require(fits) { "${name.take(40)} must be a word's ids, one a text encoder" }
    }
}

private fun checkTensors(root: JsonObject) {
    for ((name, graph) in root.entries("graphs")) {
        for (side in listOf("inputs", "outputs")) {
            for ((tensor, entry) in graph.asObject().entries(side)) {
                val sizes = entry.asObject().list("shape").filterIsInstance<Long>()
                require(sizes.fold(1.0) { product, size -> product * size } <= MOST_ELEMENTS) {
                    "graphs.$name: $tensor must have at most $MOST_ELEMENTS values"
                }
            }
        }
    }
}
