package edge.sdk.zo

import edge.sdk.EdgeSdkException
import edge.sdk.zo.Accepted.Flag
import edge.sdk.zo.Accepted.Pair
import edge.sdk.zo.Accepted.Real
import edge.sdk.zo.Accepted.Whole
import edge.sdk.zo.Accepted.Words

/** Timesteps t on which a loss is measured: [low] <= t < [high]. */
data class TimestepRange(val low: Int, val high: Int) {
    val count: Int get() = high - low

    override fun toString() = "$low $high"
}

/**
 * Settings of the zeroth-order optimizer. Defaults are the paper's (ZOODiP, CVPR 2025), where it states them. What each
 * does is in [settings]. The twin of edge_sdk/zo/config.py.
 *
 * @throws EdgeSdkException one line, for a value out of range
 */
data class ZoConfig(
    val optimizer: String = "adam",
    val maxTrainSteps: Int = 30_000,
    val learningRate: Double = 5e-3,
    val lrSchedule: String = "constant",
    val zoSamples: Int = 2,
    val zoDirections: Int = 0,
    val zoMu: Double = 1e-3,
    val zoDifference: String = "forward",
    val zoDraws: String = "shared",
    val trainBatchSize: Int = 1,
    val zoNormalize: Boolean = false,
    val subspaceBuffer: Int = 128,
    val subspaceThreshold: Double = 1e-3,
    val timestepRange: TimestepRange = TimestepRange(500, 900),
    val adamBeta1: Double = 0.9,
    val adamBeta2: Double = 0.999,
    val adamEps: Double = 1e-3, // not 1e-8: it keeps noise from being blown up to full steps
    val damping: Double = 0.1,
    val memory: Double = 1.0,
    val trustRadius: Double = 3.0,
    val averageFrom: Double = 1.0,
    val maxBadSteps: Int = 10,
) {
    init {
        for (setting in settings) {
            val value = setting.value(this)
            val problem = setting.problem(value) ?: continue
            throw EdgeSdkException("${setting.name} is ${shown(value)}; it must be $problem")
        }
    }

    val isGaussNewton: Boolean get() = optimizer == "gauss_newton"

    val isCentral: Boolean get() = zoDifference == "central"

    /** Single-row evaluations of the model a step. */
    val forwardsPerStep: Int
        get() {
            val rows = zoSamples * trainBatchSize
            val sharesBase = isGaussNewton || (!isCentral && zoDraws == "shared")
            return if (sharesBase) rows + trainBatchSize else 2 * rows
        }

    /** Gauss-Newton's directions for each vector, from which a step takes [zoSamples]. */
    val searched: Int get() = maxOf(zoSamples, zoDirections)

    /** Those of some settings that this optimizer does not look at, sorted. */
    fun withoutEffect(names: Collection<String>): List<String> =
        names.filter { it in if (isGaussNewton) OF_ADAM else OF_GAUSS_NEWTON }.sorted()

    /** A copy with some settings replaced, given by their names in JSON; see [fromJson] for what is refused. */
    fun with(changes: Map<String, Any?>): ZoConfig = fromJson(toJson() + changes)

    /** The settings as values of JSON, in the order of presets.json. */
    fun toJson(): Map<String, Any?> = linkedMapOf<String, Any?>("schema_version" to SCHEMA_VERSION).also { json ->
        for (setting in settings) {
            json[setting.name] = when (val value = setting.value(this)) {
                is Int -> value.toLong()
                is TimestepRange -> listOf(value.low.toLong(), value.high.toLong())
                else -> value
            }
        }
    }

    companion object {
        const val SCHEMA_VERSION = 1L
        private const val OFTEN = "often used"
        private const val METHOD = "method"
        private const val SAMPLES = 32 // directions a step of the preset `fast`
        private const val MOST = 1_000_000_000
        private val OF_ADAM = setOf(
            "learning_rate", "lr_schedule", "zo_difference", "zo_draws", "zo_normalize", "subspace_buffer",
            "subspace_threshold", "adam_beta1", "adam_beta2", "adam_eps",
        )
        private val OF_GAUSS_NEWTON = setOf("zo_directions", "damping", "memory", "trust_radius")

        private fun above0(below: Int) = Real("above 0 and below $below") { it > 0 && it < below }
        private fun above0AtMost(most: Int) = Real("above 0 and at most $most") { it > 0 && it <= most }
        private fun fromTo(most: Int) = Real("from 0 to $most") { it >= 0 && it <= most }
        private val share = Real("at least 0 and below 1") { it >= 0 && it < 1 }

        /** All settings, in the order of presets.json. */
        val settings: List<Setting> = listOf(
            Setting(
                "optimizer", "adam on an estimated gradient, or gauss_newton on differences of the residuals", null,
                ZoConfig::optimizer, Words("adam", "gauss_newton"),
            ),
            Setting("max_train_steps", "updates of the token", OFTEN, ZoConfig::maxTrainSteps, Whole(1..MOST)),
            Setting("learning_rate", "step size of Adam", METHOD, ZoConfig::learningRate, above0(10)),
            Setting(
                "lr_schedule", "whether the step size of Adam stays, or falls to a tenth over the run", METHOD,
                ZoConfig::lrSchedule, Words("constant", "cosine"),
            ),
            Setting("zo_samples", "directions that a step measures (n)", METHOD, ZoConfig::zoSamples, Whole(1..4096)),
            Setting(
                "zo_directions",
                "directions that Gauss-Newton searches for each vector; 0: as many as a step " +
                    "measures",
                METHOD, ZoConfig::zoDirections, Whole(0..4096),
            ),
            Setting(
                "zo_mu", "length of a perturbation per standard normal coordinate (mu)", METHOD, ZoConfig::zoMu,
                above0(10),
            ),
            Setting(
                "zo_difference", "difference of two losses: forward shares one base loss, central has two sides",
                METHOD, ZoConfig::zoDifference, Words("forward", "central"),
            ),
            Setting(
                "zo_draws", "shared: all directions see the same draws; per_direction: each has its own", null,
                ZoConfig::zoDraws, Words("shared", "per_direction"),
            ),
            Setting(
                "train_batch_size", "draws on which a step measures each direction", METHOD, ZoConfig::trainBatchSize,
                Whole(1..4096),
            ),
            Setting(
                "zo_normalize", "divide by sqrt((d' + n - 1) / n), as the released code does", null,
                ZoConfig::zoNormalize, Flag,
            ),
            Setting(
                "subspace_buffer",
                "token values from which a subspace is made (tau); 0 switches the projection off",
                METHOD, ZoConfig::subspaceBuffer, Whole(2..4096, orZero = true),
            ),
            Setting(
                "subspace_threshold", "share of variance that the removed directions hold together (nu)", METHOD,
                ZoConfig::subspaceThreshold, share,
            ),
            Setting(
                "timestep_range", "timesteps on which the loss is measured, LO <= t < HI", METHOD,
                ZoConfig::timestepRange, Pair,
            ),
            Setting("adam_beta1", "decay of Adam's mean gradient", null, ZoConfig::adamBeta1, share),
            Setting("adam_beta2", "decay of Adam's mean square", null, ZoConfig::adamBeta2, share),
            Setting(
                "adam_eps", "what Adam adds to the root of its mean square", null, ZoConfig::adamEps,
                above0AtMost(1000),
            ),
            Setting(
                "damping",
                "what Gauss-Newton adds to its matrix's diagonal, as a share of the diagonal's mean",
                METHOD, ZoConfig::damping, above0AtMost(1000),
            ),
            Setting("memory", "Gauss-Newton weighs step k by k to this power", null, ZoConfig::memory, fromTo(100)),
            Setting(
                "trust_radius", "longest step of Gauss-Newton, in the directions' coefficients", METHOD,
                ZoConfig::trustRadius, Real("above 0") { it > 0 && it.isFinite() },
            ),
            Setting(
                "average_from",
                "share of the steps from which the result is the mean token; 1: the result is the last token",
                METHOD, ZoConfig::averageFrom, fromTo(1),
            ),
            Setting(
                "max_bad_steps", "losses in a row that are not finite, after which a run gives up", null,
                ZoConfig::maxBadSteps, Whole(1..MOST),
            ),
        )

        /** The paper's settings. */
        val PAPER = ZoConfig()

        /**
         * Our best: Gauss-Newton steps in fixed directions, which the model brings.
         *
         * @param vocabularyStd standard deviation per dimension of the model's token embeddings: lengths are shares of
         *     it
         * @param width of a token embedding. The wider, the more directions matter and the more steps it takes.
         */
        fun fast(vocabularyStd: Double, width: Int): ZoConfig {
            val directions = minOf(2 * SAMPLES, maxOf(SAMPLES, width / 12))
            return ZoConfig(
                optimizer = "gauss_newton",
                maxTrainSteps = 40 * directions / SAMPLES,
                zoSamples = SAMPLES,
                zoDirections = directions,
                zoMu = 0.4 * vocabularyStd,
                trustRadius = 3 * vocabularyStd,
                subspaceBuffer = 0,
                timestepRange = TimestepRange(0, 1000),
            )
        }

        /**
         * The settings that values of JSON say; what is not given is [PAPER]'s.
         *
         * @throws EdgeSdkException another schema version, an unknown name, or a value of another type or out of range
         */
        fun fromJson(values: Map<String, Any?>): ZoConfig {
            val version = values["schema_version"]
            if (version != SCHEMA_VERSION) {
                throw EdgeSdkException("schema_version is $version; this version reads $SCHEMA_VERSION")
            }
            val unknown = (values.keys - settings.map { it.name }.toSet() - "schema_version").minOrNull()
            if (unknown != null) throw EdgeSdkException("unknown setting '$unknown'")
            val of = Values(values)
            return ZoConfig(
                of.text("optimizer", PAPER.optimizer),
                of.whole("max_train_steps", PAPER.maxTrainSteps),
                of.real("learning_rate", PAPER.learningRate),
                of.text("lr_schedule", PAPER.lrSchedule),
                of.whole("zo_samples", PAPER.zoSamples),
                of.whole("zo_directions", PAPER.zoDirections),
                of.real("zo_mu", PAPER.zoMu),
                of.text("zo_difference", PAPER.zoDifference),
                of.text("zo_draws", PAPER.zoDraws),
                of.whole("train_batch_size", PAPER.trainBatchSize),
                of.flag("zo_normalize", PAPER.zoNormalize),
                of.whole("subspace_buffer", PAPER.subspaceBuffer),
                of.real("subspace_threshold", PAPER.subspaceThreshold),
                of.pair("timestep_range", PAPER.timestepRange),
                of.real("adam_beta1", PAPER.adamBeta1),
                of.real("adam_beta2", PAPER.adamBeta2),
                of.real("adam_eps", PAPER.adamEps),
                of.real("damping", PAPER.damping),
                of.real("memory", PAPER.memory),
                of.real("trust_radius", PAPER.trustRadius),
                of.real("average_from", PAPER.averageFrom),
                of.whole("max_bad_steps", PAPER.maxBadSteps),
            )
        }
    }
}

private fun shown(value: Any): String = if (value is String) "'${value.take(60)}'" else value.toString()

/** Values of JSON with their types checked; a name that is not given has its default. */
private class Values(private val values: Map<String, Any?>) {
    fun text(name: String, default: String) = typed(name, default) { it as? String }

    fun whole(name: String, default: Int) = typed(name, default) { (it as? Long)?.let(::bounded) }

    fun real(name: String, default: Double) = typed(name, default) { it as? Double ?: (it as? Long)?.toDouble() }

    fun flag(name: String, default: Boolean) = typed(name, default) { it as? Boolean }

    fun pair(name: String, default: TimestepRange) = typed(name, default) { value ->
        val ends = (value as? List<*>)?.map { (it as? Long)?.let(::bounded) }
        if (ends?.size == 2) ends[0]?.let { low -> ends[1]?.let { TimestepRange(low, it) } } else null
    }

    /** A number beyond 32 bits is out of every range, and stays so. */
    private fun bounded(value: Long) = value.coerceIn(Int.MIN_VALUE.toLong(), Int.MAX_VALUE.toLong()).toInt()

    private fun <T : Any> typed(name: String, default: T, cast: (Any?) -> T?): T {
        if (name !in values) return default
        return cast(values[name]) ?: throw EdgeSdkException(
            "$name is ${values[name].toString().take(60)}; it must be of the type of ${shown(default)}",
        )
    }
}
