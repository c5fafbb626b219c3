package edge.sdk.presenter

import edge.sdk.photos.Photo
import java.io.File

/** What the presenter needs of the library. [BundleEngine] is the real one; tests have a small one of their own. */
fun interface Engine {
    /**
     * Reads and checks a bundle.
     *
     * @throws edge.sdk.EdgeSdkException it is refused
     */
    fun open(folder: File): Model
}

/** An opened bundle; closing it gives the memory of its graphs back. Not for two threads at a time. */
interface Model : AutoCloseable {
    /** Side of pictures in pixels. */
    val resolution: Int

    /** What to draw with a word, as the model was trained to be asked. */
    fun prompt(word: String): String

    /**
     * Learns, step by step; stopping to collect cancels. [Task.checkpoint] gets the whole state after each step.
     *
     * @throws edge.sdk.EdgeSdkException the word is refused, the state is of another bundle, or a graph fails
     */
    fun learn(task: Task): Sequence<Progress>

    /** The file of the token as it is now; only after a step, or after going on from a state. */
    fun token(): ByteArray

    /** Mean losses on draws that training never uses, as far as they are known. */
    fun heldOutLoss(): HeldOut

    /**
     * Draws a picture, with the random numbers of the session's seed.
     *
     * @param token bytes of the word's file; null draws with the word that it starts from
     */
    fun draw(prompt: String, token: ByteArray?, session: Session): Photo
}

/** Losses on draws that training never uses, before and after; null where they are not known. */
data class HeldOut(val before: Double?, val after: Double?)

/**
 * What is to be learned.
 *
 * @property photos each is decoded when it is asked for, so that one at a time is in memory
 */
class Task(
    val photos: List<Photo>,
    val word: String,
    val initializer: String,
    val seed: Long,
    val resume: ByteArray?,
    val checkpoint: (ByteArray) -> Unit,
)

/**
 * One step.
 *
 * @property step steps done, from 1
 * @property steps of the whole run
 * @property loss on this step's draw
 * @property secondsLeft null if it cannot be told yet
 */
data class Progress(val step: Int, val steps: Int, val loss: Double, val secondsLeft: Double?)

/** Decodes photos; the platform's part. */
fun interface PhotoDecoder {
    /**
     * A photo upright, in sRGB, over white.
     *
     * @param side what the model takes; a very large photo may come smaller, at least twice this size
     * @throws UnreadablePhoto it cannot be decoded, or is too small
     */
    fun decode(file: File, side: Int): Photo
}

/** A photo that cannot be used. */
class UnreadablePhoto(message: String, cause: Throwable? = null) : Exception(message, cause)
