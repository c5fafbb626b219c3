package edge.sdk.ort

import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession.SessionOptions
import edge.sdk.EdgeSdkException
import edge.sdk.oneLine
import edge.sdk.runtime.Bundle

/** A manifest's settings for ONNX Runtime, checked; the twin of edge_sdk/runtime/onnx/session.py. */
internal class OrtSettings private constructor(
    private val where: String,
    private val entries: Map<String, Any?>,
    private val onQnn: Boolean,
) {
    private val arena = flag("enable_cpu_mem_arena") ?: false
    private val threads = when (val value = entries["intra_op_num_threads"] ?: 0L) {
        is Long -> if (value in 0..256) value.toInt() else refuse("intra_op_num_threads")
        else -> refuse("intra_op_num_threads")
    }
    private val level = LEVELS[entries["graph_optimization_level"] ?: "all"] ?: refuse("graph_optimization_level")
    private val session = texts("session")
    private val provider = texts("provider")

    init {
        flag("enable_mem_reuse") // Java's interface does not have it; the graphs' shapes leave nothing to reuse
    }

    private fun flag(name: String): Boolean? = when (val value = entries[name]) {
        null -> null
        is Boolean -> value
        else -> refuse(name)
    }

    private fun texts(name: String): Map<String, String> {
        val all = entries[name] ?: return emptyMap()
        if (all !is Map<*, *>) refuse(name)
        return all.entries.associate { (key, value) -> key as String to (value as? String ?: refuse("$name.$key")) }
    }

    private fun refuse(name: String): Nothing = throw unusable("$name is ${entries[name.substringBefore('.')]}")

    private fun unusable(why: String, cause: Throwable? = null) =
        EdgeSdkException("$where has settings for onnxruntime that cannot be used ($why); make the bundle again with edge-sdk export", cause)

    /**
     * Options of a session; the caller closes them.
     *
     * @param chosen threads of one operator, or 0 for the manifest's, or else the runtime's own number.
     */
    fun options(chosen: Int): SessionOptions {
        val options = SessionOptions()
        try {
            options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL) // what it would log is in its exceptions
            options.setCPUArenaAllocator(arena)
            options.setMemoryPatternOptimization(false) // a pattern holds all of a call's memory as one block
            if (chosen > 0 || threads > 0) options.setIntraOpNumThreads(if (chosen > 0) chosen else threads)
            options.setOptimizationLevel(level)
            for ((key, value) in PATIENT + session) options.addConfigEntry(key, value)
            if (onQnn) options.addQnn(provider)
            return options
        } catch (error: OrtException) {
            options.close()
            throw unusable(oneLine(error), error)
        }
    }

    companion object {
        /** Threads that spin for one another take the time of other apps, and the battery's. */
        private val PATIENT = mapOf("session.intra_op.allow_spinning" to "0", "session.inter_op.allow_spinning" to "0")
        private val LEVELS = mapOf<Any, SessionOptions.OptLevel>(
            "disable_all" to SessionOptions.OptLevel.NO_OPT,
            "basic" to SessionOptions.OptLevel.BASIC_OPT,
            "extended" to SessionOptions.OptLevel.EXTENDED_OPT,
            "all" to SessionOptions.OptLevel.ALL_OPT,
        )

        /** @param onQnn on Qualcomm's processor, with the manifest's settings for it */
        fun of(bundle: Bundle, onQnn: Boolean = false): OrtSettings {
            val name = if (onQnn) "onnxruntime-qnn" else "onnxruntime"
            return OrtSettings("${bundle.folder}/${Bundle.MANIFEST}", bundle.manifest.runtime[name].orEmpty(), onQnn)
        }
    }
}
