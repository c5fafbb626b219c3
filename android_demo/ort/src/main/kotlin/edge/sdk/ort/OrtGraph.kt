package edge.sdk.ort

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtProvider
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import edge.sdk.EdgeSdkException
import edge.sdk.oneLine
import edge.sdk.runtime.Bundle
import edge.sdk.runtime.FloatTensor
import edge.sdk.runtime.Graph
import edge.sdk.runtime.GraphEntry
import edge.sdk.runtime.GraphLoader
import edge.sdk.runtime.LongTensor
import edge.sdk.runtime.RowsGraph
import edge.sdk.runtime.Tensor
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * Opens a bundle's graphs in ONNX Runtime, with the manifest's settings: weights stay integers in the mapped file.
 *
 * Call [Telemetry.switchOff] before the first one is made, or start the process with `ORT_DISABLE_TELEMETRY=1`.
 *
 * A bundle for Qualcomm's processor runs there where the library has its provider (`onnxruntime-android-qnn`), and on the
 * CPU, which simulates it, where it has not. The provider has been run on no chip.
 *
 * @property threads of one operator; 0: as many as the runtime takes by itself. Two leave a phone's screen responsive.
 * @property useQnn false: on the CPU in any case
 */
class OrtLoader(val threads: Int = 0, val useQnn: Boolean = true) : GraphLoader {
    init {
        if (threads !in 0..256) throw EdgeSdkException("threads is $threads; it must be from 0 (the runtime's own number) to 256")
        Telemetry.requireOff()
    }

    override fun open(bundle: Bundle, name: String): Graph {
        if (bundle.manifest.format != "onnx") {
            throw EdgeSdkException(
                "${bundle.folder} is a bundle for ${bundle.manifest.format}; this program runs onnx; make one with " +
                    "edge-sdk export --format onnx",
            )
        }
        val target = bundle.manifest.target
        val onQnn = useQnn && target?.name == "qnn" && OrtProvider.QNN in OrtEnvironment.getAvailableProviders()
        val settings = OrtSettings.of(bundle, onQnn)
        val file = bundle.graph(name)
        try {
            val environment = OrtEnvironment.getEnvironment()
            // By its path, so that neither graph nor weights are ever on Java's heap.
            val session = settings.options(threads).use { environment.createSession(file.path, it) }
            val entry = bundle.manifest.graphs.getValue(name)
            val graph = OrtGraph(name, entry, environment, session)
            return if (target == null) graph else RowsGraph(graph, entry)
        } catch (error: OrtException) {
            throw EdgeSdkException(
                "$file cannot be loaded by onnxruntime ${version()}: ${oneLine(error)}; make the bundle again with " +
                    "edge-sdk export, or install a newer onnxruntime",
                error,
            )
        } catch (error: LinkageError) {
            throw EdgeSdkException("onnxruntime's native library cannot be loaded (${oneLine(error)}); install the app again", error)
        }
    }

    companion object {
        /** Of ONNX Runtime. */
        fun version(): String = OrtEnvironment.getEnvironment().version
    }
}

/** A graph in a session of ONNX Runtime. Every native object of a call lives within that call. */
private class OrtGraph(
    private val name: String,
    private val entry: GraphEntry,
    private val environment: OrtEnvironment,
    session: OrtSession,
) : Graph {
    private var session: OrtSession? = session
    private val buffers = HashMap<String, ByteBuffer>()

    @Synchronized
    override fun run(inputs: Map<String, Tensor>, outputs: List<String>): Map<String, FloatTensor> {
        val open = checkNotNull(session) { "the graph $name is closed" }
        val tensors = HashMap<String, OnnxTensor>()
        try {
            for (input in entry.inputs.keys) {
                val tensor = inputs[input] ?: throw EdgeSdkException("the bundle's graph $name needs the input $input, which is not given")
                tensors[input] = native(input, tensor, entry.inputs.getValue(input).dtype)
            }
            open.run(tensors, outputs.toSet()).use { results ->
                return outputs.associateWith { floats(results.get(it).get() as OnnxTensor) }
            }
        } catch (error: OrtException) {
            throw EdgeSdkException("the bundle's graph $name cannot be run: ${oneLine(error)}", error)
        } finally {
            tensors.values.forEach { it.close() }
        }
    }

    @Synchronized
    override fun close() {
        session?.close()
        session = null
        buffers.clear()
    }

    /** A tensor of the runtime on a buffer that the runtime reads in place. */
    private fun native(name: String, tensor: Tensor, dtype: String): OnnxTensor {
        val shape = LongArray(tensor.shape.size) { tensor.shape[it].toLong() }
        return when (tensor) {
            is FloatTensor -> {
                val buffer = direct(name, 4 * tensor.data.size)
                buffer.asFloatBuffer().put(tensor.data)
                OnnxTensor.createTensor(environment, buffer, shape, OnnxJavaType.FLOAT)
            }
            is LongTensor -> if (dtype == "int32") {
                val buffer = direct(name, 4 * tensor.data.size)
                tensor.data.forEachIndexed { i, value -> buffer.putInt(4 * i, Math.toIntExact(value)) }
                OnnxTensor.createTensor(environment, buffer, shape, OnnxJavaType.INT32)
            } else {
                val buffer = direct(name, 8 * tensor.data.size)
                buffer.asLongBuffer().put(tensor.data)
                OnnxTensor.createTensor(environment, buffer, shape, OnnxJavaType.INT64)
            }
        }
    }

    /**
     * A buffer outside of the heap, in the machine's byte order. Only the garbage collector frees it, which may be long
     * after a call; so an input has one, which grows.
     */
    private fun direct(name: String, bytes: Int): ByteBuffer {
        val buffer = buffers[name]?.takeIf { it.capacity() >= bytes } ?: ByteBuffer.allocateDirect(bytes).also { buffers[name] = it }
        val bounds: Buffer = buffer // ByteBuffer's own versions of these came after Android 8
        bounds.clear()
        bounds.limit(bytes)
        return buffer.slice().order(ByteOrder.nativeOrder())
    }

    private fun floats(tensor: OnnxTensor): FloatTensor {
        val shape = (tensor.info as TensorInfo).shape
        val values = FloatArray(shape.fold(1L) { product, size -> product * size }.toInt())
        tensor.floatBuffer.get(values)
        return FloatTensor(IntArray(shape.size) { shape[it].toInt() }, values)
    }
}
