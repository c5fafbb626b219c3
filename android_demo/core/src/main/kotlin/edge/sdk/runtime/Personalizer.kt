package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.photos.Photo
import edge.sdk.zo.EarlyStopping
import edge.sdk.zo.NonFiniteLossException
import edge.sdk.zo.State
import edge.sdk.zo.Step
import edge.sdk.zo.TimestepRange
import edge.sdk.zo.ZoConfig
import edge.sdk.zo.evaluate
import edge.sdk.zo.heldOutDraws
import edge.sdk.zo.raised
import edge.sdk.zo.readState
import edge.sdk.zo.run
import edge.sdk.zo.stateBytes
import edge.sdk.zo.stepsBetweenCheckpoints

/**
 * Learns a token from a few photos with forward passes only, on a bundle:
 *
 * ```
 * Personalizer(Bundle.open(folder), OrtLoader(threads = 2)).use { personalizer ->
 *     for (step in personalizer.fit(photos, "<mug>", "mug")) println("${step.step} ${step.loss}")
 *     file.writeBytes(personalizer.embedding().toBytes())
 * }
 * ```
 *
 * The twin of edge_sdk/personalizer.py. It is not for two threads at a time.
 *
 * @property bundle stays as it is; its weights stay in their file
 */
class Personalizer(val bundle: Bundle, private val graphs: GraphLoader) : AutoCloseable {
    private var prepared: Prepared? = null

    /** The run at hand; null before the first step of a [fit]. */
    var state: State? = null
        private set

    /** The optimizer's settings of the run at hand. */
    val config: ZoConfig? get() = state?.config

    /** Loss of the initializer on draws that training never uses; null before the first step. */
    var lossInitial: Double? = null
        private set

    /** Loss of the learned token on the same draws; null before the last step. */
    var lossFinal: Double? = null
        private set

    /** Forward passes of all losses on held-out draws so far, where a row of a call is one. */
    var heldOutForwards = 0
        private set

    /** Draws that a loss on held-out draws is the mean of, in the run at hand. */
    val lossDraws: Int
        get() = fitted().plan.options.let { it.evalDraws ?: bundle.manifest.evalDraws.getValue(it.preset) }

    /** Where the floor of mu of the run at hand is from: "manifest" or "checkpoint"; null where a bundle has none. */
    val muSource: String?
        get() = if (fitted().plan.options.resume != null) "checkpoint" else bundle.manifest.muMin?.let { "manifest" }

    /** Of the vocabulary's variance, the share along the directions that are searched; null without any, or unknown. */
    val varianceShare: Double? get() = fitted().plan.basis.takeIf { it.isNotEmpty() }?.let {
        bundle.varianceShare(started().config.searched)
    }

    /**
     * Learns from photos, step by step. A step is taken when it is asked for, and the first one prepares: it encodes
     * the photos, opens the graph and measures [lossInitial]. Whoever stops asking has stopped the run; [checkpoint]
     * and [embedding] are then those of the last whole step.
     *
     * @param placeholder the new word, such as `<mug>`; one that the vocabulary does not have
     * @param initializer one known word to start from; null: the bundle's own, which only the embedded model has
     * @return steps, to be gone through once; their embeddings are vectors, K D numbers
     * @throws EdgeSdkException at once for word, initializer, photos or settings that do not fit; at the first step for
     *     a checkpoint or a graph that cannot be used
     * @throws NonFiniteLossException at a step: losses are not finite any more, and the last good token is kept
     */
    fun fit(
        photos: List<Photo>,
        placeholder: String,
        initializer: String? = null,
        options: FitOptions = FitOptions(),
    ): Sequence<Step> {
        val plan = Plan(bundle, photos, placeholder, initializer, options)
        return sequence {
            begin(plan)
            try {
                takeSteps(options)
                lossFinal = heldOutLoss()
                if (!lossFinal!!.isFinite()) throw NonFiniteLossException("the loss of the learned token is not finite")
            } catch (error: NonFiniteLossException) {
                options.checkpoint?.invoke(checkpoint())
                throw error
            } finally {
                close()
            }
        }.constrainOnce()
    }

    /** The state of the run at hand as bytes of a checkpoint, see [FitOptions.resume]. */
    fun checkpoint(): ByteArray = stateBytes(started(), fitted().fingerprints)

    /** What has been learned so far. */
    fun embedding(): LearnedEmbedding {
        val (state, plan) = started() to fitted().plan
        val manifest = bundle.manifest
        val metadata = mapOf(
            "placeholder_token" to plan.placeholder,
            "initializer_token" to plan.initializer,
            "model_sha256" to manifest.modelSha256,
            "weights" to manifest.weights,
            "execution" to manifest.execution,
            "preset" to plan.options.preset,
            "steps" to state.step.toString(),
            "seed" to plan.options.seed.toString(),
        )
        return LearnedEmbedding(plan.placeholder, scaled(state.result), bundle.widths, metadata)
    }

    /** The vectors that the run at hand started from, under the same word: what a picture "before" is drawn with. */
    fun initialEmbedding(): LearnedEmbedding =
        fitted().plan.let { LearnedEmbedding(it.placeholder, it.initial, bundle.widths) }

    /**
     * Draws pictures with what has been learned so far, also in the middle of a run: the loss is closed meanwhile.
     *
     * @param embedding [initialEmbedding] draws what the word was before
     * @param onProgress see [Generator.generate]
     */
    fun generate(
        prompt: String,
        options: GenerateOptions = GenerateOptions(),
        embedding: LearnedEmbedding = embedding(),
        onProgress: (done: Int, total: Int) -> Boolean = { _, _ -> true },
    ): List<Picture> {
        close()
        return Generator(bundle, graphs).generate(prompt, listOf(embedding), options, onProgress)
    }

    /** Mean loss of the token as it is, on fixed draws over all timesteps that training never uses. */
    fun heldOutLoss(): Double = heldOutLoss(started().result)

    /** Rows a call of the denoiser, in the run at hand. */
    val rows: Int get() = bundle.manifest.target?.rows ?: fitted().plan.options.rows(bundle.manifest.latents)

    /** Closes the graph; what has been learned stays, and what needs the graph opens it again. */
    override fun close() {
        prepared?.close()
    }

    private fun begin(plan: Plan) {
        close()
        state = null
        lossInitial = null
        lossFinal = null
        plan.notices().forEach(plan.options.notify)
        val ready = prepare(plan, graphs).also { prepared = it }
        val start = divided(plan.initial)
        try {
            state = plan.options.resume?.let { resumed(it, ready) } ?: State.start(
                plan.config, plan.options.seed, start, ready.objective.embeddingShape, plan.muMin, plan.basis,
            )
            lossInitial = heldOutLoss(start)
        } catch (error: Throwable) {
            close()
            throw error
        }
    }

    private fun resumed(bytes: ByteArray, ready: Prepared): State {
        val state = readState(bytes, ready.fingerprints)
        val plan = ready.plan
        // Of a bundle without a floor Python measures it, and may have raised mu to it.
        val used = if (plan.hasFinalMu) plan.config else raised(plan.config, state.muMin, bundle.manifest.vocabularyStd)
        if (state.config != used || state.seed != plan.options.seed) {
            throw EdgeSdkException("the checkpoint was made with other settings; resume with the same ones")
        }
        return state
    }

    private suspend fun SequenceScope<Step>.takeSteps(options: FitOptions) {
        val (state, ready) = started() to fitted()
        val config = state.config
        val saving = options.checkpointingSteps ?: stepsBetweenCheckpoints(config)
        val flat = if (options.stopWhenFlat) {
            val reached = if (state.step > 0) heldOutLoss() else lossInitial!!
            EarlyStopping(::heldOutLoss, lossInitial!!, reached, config)
        } else null
        for (step in run(ready.objective, state, ready.normRange, rows, parts = ready.widths)) {
            val last = step.step == config.maxTrainSteps
            val saved = last || step.step % saving == 0
            if (saved) options.checkpoint?.invoke(checkpoint())
            yield(step.copy(embedding = scaled(step.embedding)))
            if (last || flat?.isFlat(step.step) != true) continue
            if (!saved) options.checkpoint?.invoke(checkpoint())
            options.notify("the loss on draws that training never uses is flat; the run ends after step ${step.step}")
            break
        }
    }

    private fun heldOutLoss(variable: FloatArray): Double {
        val (objective, options, count) = Triple(fitted().objective, fitted().plan.options, lossDraws)
        val draws = heldOutDraws(objective, options.seed, count, TimestepRange(0, objective.numTrainTimesteps))
        var (sum, done) = 0.0 to 0
        for (call in draws.chunked(rows)) {
            options.onProgress(HELD_OUT, done, count)
            sum += evaluate(objective, variable, call, rows).sum()
            done += call.size
        }
        heldOutForwards += count
        options.onProgress(HELD_OUT, count, count)
        return sum / count
    }

    private fun scaled(variable: FloatArray): FloatArray =
        bundle.scale.let { scale -> FloatArray(variable.size) { variable[it] * scale[it % scale.size] } }

    private fun divided(vectors: FloatArray): FloatArray =
        bundle.scale.let { scale -> FloatArray(vectors.size) { vectors[it] / scale[it % scale.size] } }

    private fun fitted() = prepared ?: throw EdgeSdkException("nothing has been learned yet; call fit first")

    private fun started() = state ?: throw EdgeSdkException("nothing has been learned yet; take a step first")

    private companion object {
        const val HELD_OUT = "measuring the loss on held-out draws"
    }
}
