package edge.sdk.presenter

import java.io.IOException
import java.util.concurrent.Executor

/**
 * What the presenters of the screens share: what is shown, what outlives the process, and the two threads.
 *
 * @param worker runs one task after another
 * @param main runs a task on the main thread; all else here is called there
 * @param log gets the library's own lines of what failed
 */
internal class Board(
    val store: SessionStore,
    val worker: Executor,
    val main: Executor,
    private val log: (String) -> Unit,
) {
    /** What outlives the process. */
    var session = store.load()
        private set

    /** What the screens show now. */
    var state = UiState()
        private set

    /** Whether the person no longer wants what [work] does. Read by the worker. */
    @Volatile
    var isCancelled = false

    private val observers = mutableListOf<(UiState) -> Unit>()

    fun observe(show: (UiState) -> Unit): AutoCloseable {
        observers += show
        show(state)
        return AutoCloseable { observers -= show }
    }

    fun show(change: UiState.() -> UiState) {
        val next = state.change()
        if (next == state) return
        state = next
        observers.toList().forEach { it(next) }
    }

    /** Changes what outlives the process, without saving it yet; [save] does. */
    fun note(change: Session.() -> Session) {
        session = session.change()
        show { copy(photos = session.photos.map(store::photoFile), word = session.word, initializer = session.initializer) }
    }

    /** Saves what outlives the process; a phone that is full is a sentence, and what was saved before stays. */
    fun save() {
        try {
            store.save(session)
        } catch (error: IOException) {
            say(Message(Key.SAVING_FAILED).because(error.message))
        }
    }

    /** Changes what outlives the process. */
    fun change(change: Session.() -> Session) {
        note(change)
        save()
    }

    fun say(message: Message) {
        message.detail?.let(log)
        show { copy(message = message) }
    }

    /** Runs what takes time, one at a time; what fails is said. */
    fun work(kind: Work.Kind, action: () -> Unit) {
        if (state.work != null) return
        isCancelled = false
        show { copy(work = Work(kind), message = null) }
        worker.execute {
            val problem = problemOf(action)
            main.execute {
                show { copy(work = null) }
                problem?.let { say(it.said) }
            }
        }
    }

    /** How far [work] is; called by the worker. */
    fun progress(amount: Long) = main.execute { show { copy(work = work?.copy(amount = amount)) } }

    /** Back to the first screen with the photos; what a run has made is deleted. */
    fun startAgain() {
        store.dropResult()
        change { copy(stage = Stage.CHOOSING, word = word.removeSurrounding("<", ">")) }
        show { copy(screen = Screen.CHOOSING, learning = Learning(), result = Result(), message = null) }
    }

    private fun problemOf(action: () -> Unit): Problem? = try {
        action()
        null
    } catch (problem: Problem) {
        problem
    }
}
