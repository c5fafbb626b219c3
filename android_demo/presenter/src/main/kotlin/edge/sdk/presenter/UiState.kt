package edge.sdk.presenter

import edge.sdk.photos.Photo
import java.io.File

/** The screens. */
enum class Screen { CHOOSING, LEARNING, RESULT, MEASURING }

/**
 * All that the screens show. Every change is a new one; nothing else is kept in a view.
 *
 * @property record the last device record of [MeasuringPresenter]
 */
data class UiState(
    val screen: Screen = Screen.CHOOSING,
    val bundles: List<BundleInfo> = emptyList(),
    val bundle: BundleInfo? = null,
    val photos: List<File> = emptyList(),
    val word: String = "",
    val initializer: String = "",
    val work: Work? = null,
    val message: Message? = null,
    val learning: Learning = Learning(),
    val result: Result = Result(),
    val reading: Reading = Reading(),
    val record: File? = null,
) {
    /** Whether learning can begin. */
    val canStart: Boolean
        get() = screen == Screen.CHOOSING && work == null && bundle != null && photos.isNotEmpty() && word.isNotBlank() &&
            initializer in bundle.initializers

    /** Whether the app needs to go on in the background: it computes, or it waits for the phone to recover. */
    val isBusy: Boolean
        get() = when (work?.kind) {
            null -> screen == Screen.LEARNING && (learning.phase != Phase.PAUSED || learning.pause?.isAutomatic == true)
            else -> work.kind != Work.Kind.READING_PHOTOS // that is done in no time
        }

    /**
     * Whether the processor must stay awake with the screen off. Also while the phone cools down, or it would not notice
     * that it has; a charger wakes it by itself.
     */
    val needsProcessor: Boolean get() = isBusy && !(screen == Screen.LEARNING && learning.pause == Pause.LOW_BATTERY)
}

/** What is being done beside learning. [amount] is in bytes for copying, in steps for measuring. */
data class Work(val kind: Kind, val amount: Long = 0) {
    /** Whether [Presenter.cancel] ends it. */
    val isCancellable: Boolean get() = kind == Kind.COPYING_BUNDLE || kind == Kind.MEASURING

    enum class Kind { COPYING_BUNDLE, READING_PHOTOS, DRAWING, MEASURING }
}

enum class Phase { PREPARING, RUNNING, STOPPING, PAUSED }

/**
 * The second screen.
 *
 * @property loss smoothed, on the steps' own draws; null before the first
 * @property heldOutBefore on draws that training never uses, before learning; null until it is known
 */
data class Learning(
    val phase: Phase = Phase.PREPARING,
    val pause: Pause? = null,
    val step: Int = 0,
    val steps: Int = 0,
    val loss: Double? = null,
    val heldOutBefore: Double? = null,
    val secondsLeft: Double? = null,
)

/** The third screen. Losses are on draws that training never uses. */
data class Result(
    val token: File? = null,
    val lossBefore: Double? = null,
    val lossAfter: Double? = null,
    val prompt: String = "",
    val before: Photo? = null,
    val after: Photo? = null,
    val own: Photo? = null,
    val isKept: Boolean = false,
)

/** A mean of losses that forgets; bias-corrected (Kingma and Ba, 2015), or the first loss would weigh most for long. */
internal class Smoothed {
    private var sum = 0.0
    private var weight = 0.0

    /** Null before the first loss. */
    val value: Double? get() = if (weight > 0) sum / weight else null

    fun add(loss: Double) {
        if (!loss.isFinite()) return // a step that was skipped
        sum = KEPT * sum + (1 - KEPT) * loss
        weight = KEPT * weight + (1 - KEPT)
    }

    private companion object {
        const val KEPT = 0.8 // of the mean so far: a run has about 40 steps, each on a draw of its own
    }
}
