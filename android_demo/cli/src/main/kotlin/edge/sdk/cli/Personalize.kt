package edge.sdk.cli

import edge.sdk.EdgeSdkException
import edge.sdk.measure.ProcessMemory
import edge.sdk.ort.OrtLoader
import edge.sdk.runtime.Bundle
import edge.sdk.runtime.FitOptions
import edge.sdk.runtime.Json
import edge.sdk.runtime.Personalizer
import edge.sdk.zo.NonFiniteLossException
import edge.sdk.zo.TimestepRange
import edge.sdk.zo.ZoConfig
import java.io.File

private const val EVAL_DRAWS = 32 // as edge-sdk personalize takes
internal const val PLACEHOLDER = "<subject>"
internal const val MAX_TRAIN_STEPS = "max_train_steps"

/** The optimizer's settings that stand on a command line. */
private val METHOD = ZoConfig.settings.filter { it.group != null && it.name != MAX_TRAIN_STEPS }

internal val BUNDLE = Flag("bundle", "folder of edge-sdk export", "DIR", required = true)
internal val THREADS = Flag("threads", "threads of one operator (default: as many as the runtime takes)", "INT")
internal val SEED = Flag("seed", "seed of every random number (default 0)", "INT")
internal val QUIET = Flag("quiet", "print nothing but errors", values = 0)

internal val PERSONALIZE = Command(
    "personalize",
    "learn a word from a folder of photos",
    listOf(
        BUNDLE,
        Flag("train_data_dir", "folder with the photos (PNG, JPEG)", "DIR", required = true),
        Flag("output_dir", "folder of the run, new or to be resumed", "DIR", required = true),
        Flag("placeholder_token", "word that will stand for the subject in prompts (default $PLACEHOLDER)"),
        Flag(
            "initializer_token",
            "one known word to start from, such as dog (default: person for the embedded model, else required)",
        ),
        Flag("learnable_property", "what is learned, object or style; chooses the training prompts (default object)"),
        Flag("num_vectors", "vectors that the word stands for (default 1)", "INT"),
        Flag("preset", "settings of the method to start from, fast or paper (default fast)"),
        Flag(
            MAX_TRAIN_STEPS,
            "updates of the token (default: the preset's); auto: until the loss on held-out draws is flat",
            "INT",
        ),
        Flag("max_batch", "rows per call of the denoiser (default: 1 to 16, by the size of the latents)", "INT"),
        Flag("eval_draws", "draws for the loss before and after (default $EVAL_DRAWS)", "INT"),
        Flag("checkpointing_steps", "steps between checkpoints (default: about 150 forward passes)", "INT"),
        SEED,
        Flag("resume_from_checkpoint", "latest, or the path of a checkpoint folder of this run"),
        Flag("no_center_crop", "squeeze photos to a square instead of cropping them", values = 0),
        QUIET,
        THREADS,
    ) + METHOD.map { setting ->
        val isPair = setting.value(ZoConfig.PAPER) is TimestepRange
        Flag(setting.name, setting.help, if (isPair) "LO HI" else "VALUE", if (isPair) 2 else 1)
    },
) { arguments, _ -> personalize(arguments) }

private fun personalize(arguments: Arguments): Int {
    val stop = Stop()
    val say: (String) -> Unit = if ("quiet" in arguments) { _ -> } else ::notice
    val output = File(arguments.required("output_dir"))
    val resume = arguments.text("resume_from_checkpoint")
    val options = options(arguments, say, null, null) // refused before anything is read
    val bundle = Bundle.open(File(arguments.required("bundle")))
    val loader = OrtLoader(arguments.whole("threads") ?: 0)
    val place = File(arguments.required("train_data_dir"))
    val photos = PhotoFolder.read(place, bundle.manifest.resolution, options.centerCrop)
    if (resume == "latest") RunFolder.requireBegun(output)
    RunFolder(output).use { folder ->
        val checkpoint = resume?.let { where ->
            folder.checkpoint(where, say).also {
                if (it == null) say("the run in $output ended before its first checkpoint; it starts from the beginning")
            }
        }
        if (checkpoint == null) folder.requireFree()
        photos.notices().forEach(say)
        say("learning from ${photos.photos.size} photo(s)")
        val whole = options(arguments, say, checkpoint, folder::writeCheckpoint)
        val run = PersonalizeRun(arguments, Personalizer(bundle, loader), photos, folder, whole, say, stop)
        return run.run("personalize")
    }
}

private fun options(
    arguments: Arguments,
    say: (String) -> Unit,
    resume: ByteArray?,
    checkpoint: ((ByteArray) -> Unit)?,
): FitOptions {
    val steps = arguments.text(MAX_TRAIN_STEPS)
    if (steps != null && steps != "auto" && steps.toIntOrNull() == null)
        throw EdgeSdkException("--$MAX_TRAIN_STEPS is '${steps.take(60)}'; it must be a number of steps or auto")
    return FitOptions(
        seed = arguments.seed("seed") ?: 0u,
        preset = arguments.text("preset") ?: "fast",
        maxTrainSteps = steps?.toIntOrNull(),
        stopWhenFlat = steps == "auto",
        numVectors = arguments.whole("num_vectors") ?: 1,
        learnableProperty = arguments.text("learnable_property") ?: "object",
        centerCrop = "no_center_crop" !in arguments,
        maxBatch = arguments.whole("max_batch"),
        evalDraws = arguments.whole("eval_draws") ?: EVAL_DRAWS,
        checkpointingSteps = arguments.whole("checkpointing_steps"),
        settings = METHOD.filter { it.name in arguments }
            .associate { it.name to value(arguments, it.name, it.value(ZoConfig.PAPER)) },
        resume = resume,
        checkpoint = checkpoint,
        notify = say,
    ).also { options -> ZoConfig.PAPER.with(options.settings) }
}

/** A setting's value as JSON has it, of the type of another value. */
private fun value(arguments: Arguments, name: String, like: Any): Any = when (like) {
    is Int -> arguments.whole(name)!!.toLong()
    is Double -> arguments.real(name)!!
    is TimestepRange -> arguments.texts(name)!!.let { ends ->
        val given = ends.joinToString(" ").take(60)
        ends.map { it.toLongOrNull() ?: throw EdgeSdkException("--$name is '$given'; it must be two whole numbers") }
    }
    else -> arguments.text(name)!!
}

/** A run whose folder is locked: steps, checkpoints, the learned file, `run.json`. */
private class PersonalizeRun(
    private val arguments: Arguments,
    private val personalizer: Personalizer,
    private val photos: PhotoFolder,
    private val folder: RunFolder,
    private val options: FitOptions,
    private val say: (String) -> Unit,
    private val stop: Stop,
) {
    private val memory = ProcessMemory()

    fun run(command: String): Int {
        var resumed: Int? = null
        val placeholder = arguments.text("placeholder_token") ?: PLACEHOLDER
        try {
            for (step in personalizer.fit(photos.photos, placeholder, arguments.text("initializer_token"), options)) {
                resumed = resumed ?: (step.step - 1)
                memory.sample()
                val (loss, left) = "%.4f".format(step.loss) to "%.0f".format(step.etaSeconds)
                say("step ${step.step}/${step.steps}  loss $loss  forwards ${step.forwards}  $left s left")
                if (stop.isRequested && step.step < step.steps) {
                    folder.writeCheckpoint(personalizer.checkpoint())
                    notice(
                        "$PROGRAM: stopped after step ${step.step}, saved; go on with the same command and " +
                            "--resume_from_checkpoint latest",
                    )
                    return CANCELLED
                }
            }
        } catch (error: NonFiniteLossException) {
            folder.write(LEARNED, personalizer.embedding().toBytes())
            throw EdgeSdkException(
                "${error.message}; the last good token is in ${folder.folder}/$LEARNED, start a new run with a smaller " +
                    "learning_rate or zo_mu",
                error,
            )
        } finally {
            personalizer.close()
        }
        folder.write(LEARNED, personalizer.embedding().toBytes())
        val state = personalizer.state!!
        val record = runRecord(command, personalizer, options, arguments, photos, resumed ?: state.step, memory.peak())
        folder.write("run.json", (Json.write(record, indent = 2) + "\n").toByteArray())
        if ("quiet" in arguments) return DONE
        println(
            "loss %.4f -> %.4f on draws it never trained on, %d steps, %d forward passes, %.0f s".format(
                personalizer.lossInitial, personalizer.lossFinal, state.step, state.forwards, state.seconds,
            ),
        )
        println(printable("wrote ${folder.folder}/$LEARNED"))
        return DONE
    }

    private companion object {
        const val LEARNED = "learned_embeds.safetensors"
    }
}
