package edge.sdk.presenter

import edge.sdk.EdgeSdkException
import edge.sdk.photos.Photo
import java.io.IOException

/** What happens while learning, in this order; [Paused] instead of [Learned] if it was stopped. */
internal sealed interface Event {
    data class Stepped(val progress: Progress, val heldOutBefore: Double?) : Event
    data object Paused : Event
    data class Learned(val loss: HeldOut) : Event
}

/**
 * Learning on the worker's thread, from the last checkpoint until the end or until it is stopped.
 *
 * A pause ends the stretch and frees all memory; going on is a new stretch. So a pause, a process that Android ends and a
 * phone that is switched off take the same way back, and a phone at rest holds no model.
 */
internal class Stretch(
    private val open: () -> Model,
    private val store: SessionStore,
    private val decoder: PhotoDecoder,
    private val session: Session,
) {
    enum class Stop { PAUSE, FINISH }

    /** Set by the main thread; the worker looks at it after each step. */
    @Volatile
    var stop: Stop? = null

    /** @throws Problem the sentence to show; the last checkpoint is still there */
    fun run(report: (Event) -> Unit) = describingProblems(Key.LEARNING_FAILED) {
        open().use { model -> learn(model, report) }
    }

    private fun learn(model: Model, report: (Event) -> Unit) {
        val task = Task(
            photos = photos(model.resolution),
            word = session.word,
            initializer = session.initializer,
            seed = session.seed,
            resume = store.checkpoint(),
            checkpoint = store::saveCheckpoint,
        )
        val steps = begin(task) { model.learn(task).iterator() }
        // A state is looked at by the first step. Of a fresh run a failure here is the model's, not the word's.
        var hasNext = stop == null && if (task.resume == null) steps.hasNext() else begin(task, steps::hasNext)
        while (hasNext) {
            val progress = steps.next()
            store.saveToken(model.token()) // so that a run that rests can be finished without the model
            report(Event.Stepped(progress, model.heldOutLoss().before))
            hasNext = stop == null && steps.hasNext()
        }
        // The process may have ended between the last checkpoint and its token.
        if (stop == null) store.saveToken(model.token())
        if (stop == Stop.PAUSE || !store.token.isFile) report(Event.Paused) else report(Event.Learned(model.heldOutLoss()))
    }

    private fun <T> begin(task: Task, action: () -> T): T = try {
        action()
    } catch (error: EdgeSdkException) {
        val what = if (task.resume == null) Message(Key.WORD_REFUSED, task.word) else Message(Key.STATE_REFUSED)
        throw Problem(what.because(error.message), error)
    }

    private fun photos(side: Int): List<Photo> = object : AbstractList<Photo>() {
        override val size get() = session.photos.size

        override fun get(index: Int) = decoder.decode(store.photoFile(session.photos[index]), side)
    }
}

/**
 * Runs what may fail, and turns every failure into a sentence.
 *
 * @param otherwise what to say of a failure of the library
 */
internal fun <T> describingProblems(otherwise: Key, action: () -> T): T = try {
    action()
} catch (error: EdgeSdkException) {
    throw Problem(Message(otherwise).because(error.message), error)
} catch (error: IOException) {
    throw Problem(Message(Key.SAVING_FAILED).because(error.message), error)
} catch (error: UnreadablePhoto) {
    throw Problem(Message(Key.PHOTOS_UNREADABLE, 1, 1).because(error.message), error)
} catch (error: RuntimeException) { // a defect; a crash would come again at every start
    throw Problem(Message(otherwise).because("$error"), error)
} catch (error: OutOfMemoryError) {
    throw Problem(Message(Key.NO_MEMORY).because(error.message), error)
}
