package edge.sdk.presenter

import java.io.File
import java.util.concurrent.Executor

/**
 * What the app does, without Android: it takes what the person and the phone do, and shows a [UiState].
 *
 * Every public function is called on the main thread, and observers are called there; what takes time runs on [worker].
 * All that matters is in [store] after every change, so that a presenter made anew goes on where the last one ended.
 *
 * @param pushed bundles that a computer has put beside the app
 * @param records the folder of device records
 * @param worker runs one task after another
 * @param main runs a task on the main thread
 * @param makeSeed a new run's seed
 * @param log gets the library's own lines of what failed
 */
class Presenter(
    private val shelf: Shelf,
    store: SessionStore,
    private val engine: Engine,
    decoder: PhotoDecoder,
    measurer: Measurer,
    pushed: () -> List<Source>,
    records: File,
    worker: Executor,
    main: Executor,
    makeSeed: () -> Long,
    log: (String) -> Unit = {},
) {
    private val board = Board(store, worker, main, log)
    val result = ResultPresenter(board, ::open)
    val learning = LearningPresenter(board, decoder, ::open, result::show)
    val choosing = ChoosingPresenter(board, shelf, pushed, decoder, makeSeed, learning::begin)
    val measuring = MeasuringPresenter(board, shelf, pushed, measurer, records)

    /** What the screens show now. */
    val state: UiState get() = board.state

    init {
        store.keepPhotos(board.session.photos)
        board.show { restored(board.session) }
    }

    /** Calls [show] now and at every change, until what it returns is closed. */
    fun observe(show: (UiState) -> Unit): AutoCloseable = board.observe(show)

    /** The app is on the screen: what was interrupted goes on. */
    fun appear() {
        when (state.screen) {
            Screen.CHOOSING -> choosing.refresh()
            Screen.LEARNING -> learning.resume()
            Screen.RESULT -> result.show()
            Screen.MEASURING -> Unit
        }
    }

    /** The app is no longer on the screen. */
    fun hide() = board.save()

    /** Ends copying a bundle or measuring; nothing of it stays. */
    fun cancel() {
        board.isCancelled = true
    }

    /** Takes the message off the screen. */
    fun dismiss() = board.show { copy(message = null) }

    private fun restored(session: Session): UiState {
        val bundles = shelf.list()
        val paused = Learning(
            phase = Phase.PAUSED,
            pause = if (session.isPausedByPerson) Pause.PERSON else Pause.INTERRUPTED,
            step = session.step,
            steps = session.steps,
            heldOutBefore = session.lossBefore,
        )
        return UiState(
            screen = Screen.valueOf(session.stage.name),
            bundles = bundles,
            bundle = bundles.firstOrNull { it.name == session.bundle },
            photos = session.photos.map(board.store::photoFile),
            word = session.word,
            initializer = session.initializer,
            learning = if (session.stage == Stage.LEARNING) paused else Learning(),
        )
    }

    /** Opens the bundle that the session has begun with; on the worker. */
    private fun open(session: Session): Model {
        val name = session.bundle.orEmpty()
        val info = shelf.list().firstOrNull { it.name == name } ?: throw Problem(Message(Key.BUNDLE_MISSING, name))
        if (info.digest != session.digest) throw Problem(Message(Key.BUNDLE_CHANGED, name))
        shelf.examine(shelf.folderOf(name), name)
        return engine.open(shelf.folderOf(name))
    }
}
