package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.zo.Noise
import edge.sdk.zo.Stream
import java.io.File
import kotlin.math.abs

/**
 * A bundle's golden vectors on a runtime; the twin of the reader in export/cases.py and export/verify.py.
 *
 * A case is PyTorch's output on the same weights. The measure is max |found - wanted| / max |wanted|.
 */
object Golden {
    private const val MOST_BYTES = 64 shl 20
    private const val LEAST_ELEMENTS = 1L shl 22 // that a tensor may have whatever the size of pictures

    /** What a runtime made of the cases of one graph. */
    class Outcome(val graph: String, val worst: Double, val bound: Double) {
        val good get() = worst <= bound
    }

    /**
     * Runs all cases, one graph after the other.
     *
     * @param runtime its name in the cases' bounds.
     * @throws EdgeSdkException a case is broken, which is found before anything runs, or a graph cannot be run.
     */
    fun verify(bundle: Bundle, graphs: GraphLoader, runtime: String = "onnxruntime"): List<Outcome> {
        val cases = cases(bundle)
        cases.firstOrNull { runtime !in it.entries("bounds") }?.let {
            throw EdgeSdkException("a case of ${it.text("graph")} has no bound for $runtime; $AGAIN")
        }
        return cases.groupBy { it.text("graph") }.map { (name, own) ->
            graphs.open(bundle, name).use { graph ->
                own.map { Outcome(name, difference(it, graph), it.entries("bounds").real(runtime)) }
                    .maxBy { it.worst / it.bound }
            }
        }
    }

    /** The cases of golden.json, checked by the manifest before memory is taken for their tensors. */
    internal fun cases(bundle: Bundle): List<JsonObject> {
        val file = File(bundle.folder, "golden.json")
        val golden = Json.readObject(file, AGAIN, MOST_BYTES)
        try {
            check(golden, Entries("schema_version" to OneOf(1L), "cases" to Many(AnyObject, 1, 10_000)))
            return golden.list("cases").map { it.asObject() }.onEachIndexed { i, case ->
                try {
                    checkCase(case, bundle.manifest)
                } catch (error: IllegalArgumentException) {
                    throw IllegalArgumentException("case $i: ${error.message}", error)
                }
            }
        } catch (error: IllegalArgumentException) {
            throw EdgeSdkException("$file cannot be used: ${error.message}; $AGAIN", error)
        }
    }

    private fun checkCase(case: JsonObject, manifest: Manifest) {
        check(case, CASE)
        val name = case.text("graph")
        val graph = requireNotNull(manifest.graphs[name]) {
            "graph is ${ascii(name)}; the bundle has ${manifest.graphs.keys.sorted().joinToString(", ")}"
        }
        require(case.entries("outputs").isNotEmpty()) { "it has no outputs, so it compares nothing" }
        val most = maxOf(LEAST_ELEMENTS, 4L * manifest.resolution * manifest.resolution)
        for ((side, declared) in listOf("inputs" to graph.inputs, "outputs" to graph.outputs)) {
            val tensors = case.entries(side)
            ((tensors.keys - declared.keys) + (declared.keys - tensors.keys)).minOrNull()?.let {
                throw IllegalArgumentException("$side and those of the graph differ in ${ascii(it)}")
            }
            for ((key, tensor) in tensors) {
                val shape = tensor.asObject().list("shape").ints()
                val own = declared.getValue(key).shape
                require(shape.size == own.size && shape.zip(own).all { (size, given) -> given == null || given == size }) {
                    "$side.$key.shape is $shape, and the graph's is $own"
                }
                val size = shape.fold(1.0) { product, each -> product * each }
                require(size <= most) { "$side.$key.shape is $shape, of more than $most values" }
                checkValues(tensor.asObject(), "$side.$key", size.toInt(), side == "inputs")
            }
        }
    }

    /** The values of an input may end early; those of an output are every so many-th. */
    private fun checkValues(tensor: JsonObject, where: String, size: Int, isInput: Boolean) {
        if (!isInput) {
            val stride = tensor["stride"] as Long? ?: 1
            val due = (size + stride - 1) / stride
            require(tensor.list("values").size.toLong() == due) {
                "$where.values are ${tensor.list("values").size}; its shape and stride make $due"
            }
        } else if ("normals" in tensor) {
            require(tensor["dtype"] == "float32") { "$where.dtype is ${tensor["dtype"]}; normals are float32" }
        } else {
            check(tensor, Entries("values" to NUMBERS.getValue(tensor.text("dtype"))), where)
            require(tensor.list("values").size <= size) { "$where.values are ${tensor.list("values").size}; its shape has $size" }
        }
    }

    private fun difference(case: JsonObject, graph: Graph): Double {
        val inputs = case.entries("inputs").mapValues { (_, tensor) -> tensorOf(tensor.asObject()) }
        val outputs = case.entries("outputs")
        val results = graph.run(inputs, outputs.keys.toList())
        return outputs.maxOf { (name, wanted) -> difference(wanted.asObject(), results.getValue(name)) }
    }

    /** Infinite for another shape, and for what is not finite. */
    private fun difference(wanted: JsonObject, result: FloatTensor): Double {
        if (wanted.list("shape").ints() != result.shape.toList() || result.data.any { !it.isFinite() }) return Double.POSITIVE_INFINITY
        val stride = (wanted["stride"] as Long? ?: 1).toInt()
        val values = wanted.reals("values")
        val largest = maxOf(values.maxOf { abs(it) }, 1e-30)
        return values.indices.maxOf { abs(result.data[it * stride] - values[it]) } / largest
    }

    /** An input as a tensor; values that are left out at its end are zeros. */
    internal fun tensorOf(tensor: JsonObject): Tensor {
        val shape = tensor.list("shape").ints().toIntArray()
        val size = shape.fold(1) { product, each -> product * each }
        val values = tensor["values"] as List<*>?
        if (values == null) return FloatTensor(shape, normals(tensor, size))
        if (tensor["dtype"] != "float32") return LongTensor(shape, LongArray(size) { values.getOrNull(it) as Long? ?: 0 })
        return FloatTensor(shape, FloatArray(size) { (values.getOrNull(it) as Number? ?: 0).toDouble().toFloat() })
    }

    private fun normals(tensor: JsonObject, size: Int): FloatArray {
        val source = tensor.entries("normals")
        val seed = source.getValue("seed").toString().toULong()
        val numbers = Noise.normals(seed, Stream.entries[source.int("stream")], source.long("step"), size)
        val scale = (tensor["scale"] as Number? ?: 1).toDouble().toFloat()
        val offset = (tensor["offset"] as Number? ?: 0).toDouble().toFloat()
        val clip = (tensor["clip"] as List<*>?)?.map { (it as Number).toDouble().toFloat() }
        return FloatArray(size) { i ->
            val value = numbers[i] * scale + offset
            if (clip == null) value else minOf(maxOf(value, clip[0]), clip[1])
        }
    }

    private val SHAPE = Many(Whole(1, 1 shl 24), 0, 8)
    private val NUMBERS = mapOf(
        "float32" to Many(Real()),
        "int32" to Many(Whole(Int.MIN_VALUE.toLong(), Int.MAX_VALUE.toLong())),
        "int64" to Many(Whole(-(1L shl 53), 1L shl 53)),
    )
    private val INPUT = Entries(
        "shape" to SHAPE,
        "dtype" to OneOf("float32", "int32", "int64"),
        "normals" to Maybe(Entries("seed" to Unsigned, "stream" to Whole(0, 4), "step" to Whole(0, (1L shl 32) - 1))),
        "scale" to Maybe(Real()),
        "offset" to Maybe(Real()),
        "clip" to Maybe(Many(Real(), 2, 2)),
    )
    private val OUTPUT = Entries("shape" to SHAPE, "values" to Many(Real(), 1), "stride" to Maybe(Whole(1, 1 shl 24)))
    private val CASE = Entries(
        "graph" to Text,
        "inputs" to Named(INPUT),
        "outputs" to Named(OUTPUT),
        "bounds" to Named(Real(1e-12, 1.0)),
    )
}
