package edge.sdk.measure

import edge.sdk.photos.Photo
import edge.sdk.runtime.Bundle
import edge.sdk.runtime.FitOptions
import edge.sdk.runtime.GraphLoader
import edge.sdk.runtime.JsonObject
import edge.sdk.runtime.Personalizer
import edge.sdk.zo.Noise
import edge.sdk.zo.Stream
import java.time.LocalDate

/**
 * How to measure.
 *
 * @property command the command line, or what stands for it
 * @property client name and version of the program
 * @property onnxruntime its version
 * @property threads that [GraphLoader] uses; 0: as many as the runtime takes by itself
 * @property steps null: the preset's
 * @property maxBatch rows a call; null: by the size of the latents
 */
class MeasureOptions(
    val command: String,
    val client: String,
    val onnxruntime: String,
    val threads: Int = 0,
    val steps: Int? = null,
    val maxBatch: Int? = null,
    val seed: ULong = 0u,
)

/**
 * One whole run on a bundle, watched: time, memory, temperature and charge.
 *
 * @param photos what to learn from; null: five pictures of seeded noise, for neither time nor memory depends on what they show
 */
class Measurement(
    private val bundle: Bundle,
    private val graphs: GraphLoader,
    private val device: Device,
    private val options: MeasureOptions,
    private val photos: List<Photo>? = null,
) {
    private val memory = ProcessMemory()
    private val phases = linkedMapOf<String, Any?>()
    private var loaded: Memory? = null
    private var loadSeconds: Double? = null
    private var began = 0L

    /**
     * Runs, and describes what was seen in the schema of `benchmarks/results/memory*.json`.
     *
     * @param onStep is called with the number of steps so far; false ends the run
     * @return null if it was ended
     * @throws edge.sdk.EdgeSdkException the run fails
     */
    fun run(onStep: (Int) -> Boolean = { true }): JsonObject? {
        val start = batteryNow()
        val seconds = mutableListOf<Double>()
        val cpuSeconds = mutableListOf<Double>()
        val fit = FitOptions(seed = options.seed, maxTrainSteps = options.steps, maxBatch = options.maxBatch, checkpoint = {})
        memory.reset()
        val sampler = Sampler(memory, device)
        endPhase("import")
        began = System.nanoTime()
        val personalizer = Personalizer(bundle, ::open)
        sampler.use {
            personalizer.use {
                var (wall, cpu) = 0.0 to device.cpuSeconds()
                for (step in personalizer.fit(photos ?: noise(), WORD, initializer(), fit)) {
                    seconds += step.seconds - wall
                    wall = step.seconds
                    val now = device.cpuSeconds()
                    // The first step's includes what comes before it: encoding and the loss on held-out draws.
                    if (now != null && cpu != null) cpuSeconds += now - cpu
                    cpu = now
                    if (step.step == 1) phases["step"] = memory.peak()?.toJson()
                    if (!onStep(step.step)) return null
                }
            }
        }
        phases["run"] = memory.peak()?.toJson()
        val end = batteryNow()
        val run = linkedMapOf(
            "phases" to phases,
            "loaded" to loaded?.let { mapOf("resident" to it.resident, "anonymous" to it.anonymous) },
            "load_seconds" to loadSeconds,
            "seconds" to seconds,
            "cpu_seconds" to cpuSeconds.takeIf { it.size == seconds.size },
            "computed" to emptyMap<String, Any?>(),
            "peak_pss_mb" to sampler.pss,
            "native_heap_mb" to sampler.nativeHeap,
            "temperature_c" to mapOf("start" to start.first, "end" to end.first),
            "battery" to mapOf("start" to start.second, "end" to end.second),
            "loss_initial" to personalizer.lossInitial,
            "loss_final" to personalizer.lossFinal,
        )
        return record(case(fit, personalizer), run)
    }

    private fun batteryNow() = device.temperature() to device.battery()

    /** The denoiser is opened last; loading ends with it. */
    private fun open(bundle: Bundle, name: String) = graphs.open(bundle, name).also {
        if (name == "zo_loss" && loadSeconds == null) {
            loadSeconds = (System.nanoTime() - began) / 1e9
            loaded = memory.now()
            endPhase("load")
        }
    }

    private fun endPhase(name: String) {
        phases[name] = memory.peak()?.toJson()
        memory.reset()
    }

    private fun initializer() = bundle.manifest.initializerToken ?: bundle.manifest.initializers.keys.min()

    private fun noise(): List<Photo> {
        val side = bundle.manifest.resolution
        return List(PHOTOS) { i ->
            val normals = Noise.normals(options.seed, Stream.NOISE, i.toLong(), 3 * side * side)
            Photo(side, side, ByteArray(normals.size) { (127 + 40 * normals[it]).toInt().coerceIn(0, 255).toByte() })
        }
    }

    private fun case(fit: FitOptions, run: Personalizer) = linkedMapOf(
        "kind" to "device",
        "client" to "kotlin",
        "weights" to bundle.manifest.weights,
        "preset" to fit.preset,
        "threads" to options.threads,
        "max_batch" to run.rows,
        "steps" to run.state!!.step,
        "steps_of_preset" to bundle.manifest.presets.getValue(fit.preset).maxTrainSteps,
        "forwards" to run.state!!.forwards,
        "file_mb" to bundle.manifest.files.values.sumOf { it.bytes } / 1e6,
    )

    private fun record(case: JsonObject, run: JsonObject): JsonObject = linkedMapOf(
        "schema_version" to 1,
        "command" to listOf(options.command),
        "date" to LocalDate.now().toString(),
        "machine" to linkedMapOf(
            "name" to device.name,
            "system" to device.system,
            "cpu" to device.cpu,
            "client" to options.client,
            "onnxruntime" to options.onnxruntime,
            "java" to System.getProperty("java.version"),
        ),
        "device" to "cpu",
        "model" to bundle.manifest.name,
        "checkpoints" to listOf(bundle.folder.name),
        "limit_mb" to null,
        "results" to mapOf(
            "${bundle.manifest.weights} kotlin, ${device.name}" to linkedMapOf("case" to case, "runs" to listOf(run)),
        ),
    )

    private companion object {
        const val WORD = "<measured-word>"
        const val PHOTOS = 5
    }
}

private fun Memory.toJson() = linkedMapOf("resident" to resident, "anonymous" to anonymous, "file" to file)

/** Looks at memory now and then, on a thread of its own, until it is closed. */
private class Sampler(private val memory: ProcessMemory, private val device: Device) : AutoCloseable {
    private val thread = Thread(::watch, "memory").apply {
        isDaemon = true
        start()
    }

    @Volatile
    var pss: Double? = null
        private set

    @Volatile
    var nativeHeap: Double? = null
        private set

    private fun watch() {
        var count = 0
        try {
            while (true) {
                memory.sample()
                if (count++ % SLOW == 0) lookSlowly()
                Thread.sleep(MILLISECONDS)
            }
        } catch (_: InterruptedException) {
            lookSlowly()
        }
    }

    /** These walk all mappings. */
    private fun lookSlowly() {
        device.pss()?.let { pss = maxOf(it, pss ?: it) }
        device.nativeHeap()?.let { nativeHeap = maxOf(it, nativeHeap ?: it) }
    }

    override fun close() {
        thread.interrupt()
        thread.join()
    }

    private companion object {
        const val MILLISECONDS = 20L
        const val SLOW = 50 // samples between two slow looks
    }
}
