package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.photos.Photo
import edge.sdk.zo.NormRange
import edge.sdk.zo.ZoConfig
import edge.sdk.zo.directions
import edge.sdk.zo.refuseBelow
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import java.util.Locale
import kotlin.math.log10

private const val MOST_PHOTOS = 100
private const val POCKET_PSNR = 20.0 // dB; the VAE reproduces every held-out person better, photographs worse

/**
 * What is to be learned from: the word, its initializer, and everything about a run that is known before the first
 * graph is opened. The twin of edge_sdk/preparation.py, as is [prepare].
 *
 * @throws EdgeSdkException word, initializer, photos or settings do not fit the bundle
 */
internal class Plan(
    val bundle: Bundle,
    val photos: List<Photo>,
    val placeholder: String,
    initializer: String?,
    val options: FitOptions,
) {
    private val manifest = bundle.manifest
    private val text = BundleText(bundle)

    val initializer: String = initializer ?: manifest.initializerToken ?: throw EdgeSdkException(
        "initializer_token is not given; name what the photos show in one word, such as 'dog' or 'mug'",
    )

    /** The vectors to start from, K D numbers. */
    val initial: FloatArray

    /** Rows of token ids of the training prompts, (P, T). */
    val ids: List<LongArray>

    /** The floor of mu that was measured when the bundle was made; infinite if none was found, NaN in older bundles. */
    val muMin = manifest.muMin ?: Double.NaN
    val config: ZoConfig

    /** Whether mu is final: the user's, or of a preset that was raised to the floor when the bundle was made. */
    val hasFinalMu get() = "zo_mu" in options.settings || manifest.muMin != null

    /** Directions of Gauss-Newton, K D numbers each. */
    val basis: List<FloatArray>

    init {
        if (photos.size !in 1..MOST_PHOTOS) {
            throw EdgeSdkException(
                "there are ${photos.size} photos; give 1 to $MOST_PHOTOS, of which 3 to 5 are enough",
            )
        }
        text.checkPlaceholder(placeholder)
        manifest.target?.vectors?.let {
            if (it != options.numVectors) {
                throw EdgeSdkException(
                    "num_vectors is ${options.numVectors}; the graphs of ${bundle.folder} are for $it; give that, or export a " +
                        "bundle with --num_vectors ${options.numVectors}",
                )
            }
        }
        initial = text.initialEmbedding(this.initializer, options.numVectors)
        val vectors = mapOf(placeholder to options.numVectors)
        ids = text.trainingPrompts(options.learnableProperty, placeholder).map { text.row(it, vectors) }
        config = settings()
        basis = when {
            config.isGaussNewton -> bundle.principalDirections(config.searched)
                .let { directions(it, config.zoSamples, options.numVectors) }
            else -> emptyList()
        }
    }

    private fun settings(): ZoConfig {
        val preset = options.config(manifest)
        if ("zo_mu" in options.settings) refuseBelow(preset, muMin, "${manifest.weights} ${manifest.execution}")
        return preset
    }

    /** What the user should know before the run starts, a line each. */
    fun notices(): List<String> = buildList {
        val timesteps = manifest.scheduler.int("num_train_timesteps")
        if (config.timestepRange.count != timesteps) {
            add(
                "the losses of steps are over timesteps ${config.timestepRange.low} to " +
                    "${config.timestepRange.high - 1}; compare runs by the held-out losses, which are over all " +
                    "timesteps",
            )
        }
        val idle = config.withoutEffect(options.settings.keys)
        if (idle.isNotEmpty()) {
            add(
                "${idle.joinToString(", ")}: without effect on optimizer ${config.optimizer}, of preset " +
                    "${options.preset}; leave it out or choose the other --preset",
            )
        }
    }
}

/**
 * A bundle as an objective of one set of photos, and where to start.
 *
 * @property fingerprints of everything that must be the same when a run is resumed
 */
internal class Prepared(val plan: Plan, val objective: BundleObjective, val fingerprints: Map<String, String>) :
    AutoCloseable by objective {
    private val parts = plan.bundle.manifest.embedding
    val scale: FloatArray get() = plan.bundle.scale
    val widths: IntArray get() = plan.bundle.widths
    val normRange = NormRange(
        DoubleArray(parts.size) { parts[it].normRange.first },
        DoubleArray(parts.size) { parts[it].normRange.second },
    )
}

/**
 * Encodes the photos, closes the VAE, then opens what the loss is computed with.
 *
 * @throws EdgeSdkException a graph cannot be run
 */
internal fun prepare(plan: Plan, graphs: GraphLoader): Prepared {
    val (bundle, options) = plan.bundle to plan.options
    val side = bundle.manifest.resolution
    val pixels = plan.photos.map { it.resized(side, options.centerCrop).pixels() }
    val latents = encode(bundle, graphs, pixels.withProgress { options.onProgress(ENCODING, it, pixels.size) })
    options.onProgress(ENCODING, pixels.size, pixels.size)
    if (bundle.isPocket) pocketNotice(bundle, graphs, latents, pixels)?.let(options.notify)
    val sizes = plan.photos.map { intArrayOf(it.originalHeight, it.originalWidth) }
    val objective = BundleObjective(bundle, graphs, latents, plan.ids, sizes, options.numVectors)
    options.onProgress("loading the denoiser", 0, 0)
    objective.open()
    val fingerprints = mapOf(
        "model" to bundle.manifest.modelSha256,
        "bundle" to bundle.sha256,
        "photos" to hashOf(pixels, plan.ids, timeIds(sizes, side).data),
        "token" to "${plan.placeholder} from ${plan.initializer}",
    )
    return Prepared(plan, objective, fingerprints)
}

private const val ENCODING = "encoding photos"

private fun <T> List<T>.withProgress(done: (Int) -> Unit): Iterable<T> =
    asSequence().mapIndexed { i, each -> each.also { done(i) } }.asIterable()

/** SHA-256 of the photos' pixels, the prompts' ids and what SDXL is told of the photos, little-endian. */
private fun hashOf(pixels: List<FloatArray>, ids: List<LongArray>, sizes: FloatArray): String {
    val digest = MessageDigest.getInstance("SHA-256")
    fun add(size: Int, fill: (ByteBuffer) -> Unit) =
        digest.update(ByteArray(size).also { fill(ByteBuffer.wrap(it).order(ByteOrder.LITTLE_ENDIAN)) })
    for (photo in pixels) add(4 * photo.size) { it.asFloatBuffer().put(photo) }
    for (row in ids) add(8 * row.size) { it.asLongBuffer().put(row) }
    add(4 * sizes.size) { it.asFloatBuffer().put(sizes) }
    return hexOf(digest.digest())
}

/** A warning where photos are not of the kind that the embedded model draws: its VAE cannot reproduce them. */
private fun pocketNotice(
    bundle: Bundle,
    graphs: GraphLoader,
    latents: List<Latents>,
    photos: List<FloatArray>,
): String? {
    val side = bundle.manifest.resolution
    val shape = intArrayOf(1, *bundle.manifest.latents.toIntArray())
    val psnr = graphs.open(bundle, "vae_decoder").use { decoder ->
        latents.zip(photos) { photo, pixels ->
            val decoded = decoder.run(mapOf("latents" to FloatTensor(shape, photo.mean)), listOf("pixels"))
            val shown = Photo.ofPixels(side, side, decoded.getValue("pixels").data).pixels()
            var square = 0.0
            for (i in shown.indices) square += (shown[i] - pixels[i]).toDouble() * (shown[i] - pixels[i])
            10 * log10(4 / maxOf(square / shown.size, 1e-6))
        }.average()
    }
    if (psnr >= POCKET_PSNR) return null
    return "the embedded model draws pixel-art people only, and its VAE reproduces these photos at " +
        "${String.format(Locale.ROOT, "%.0f", psnr)} dB only; expect their colours at best, and export a Stable " +
        "Diffusion model for real photos"
}
