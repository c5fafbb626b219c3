package edge.sdk.presenter

import java.io.InputStream
import java.util.concurrent.Executor

/**
 * What the app does, without Android: it takes what the person and the phone do, and shows a [UiState].
 *
 * Every public function is called on the main thread, and observers are called there; what takes time runs on [worker].
 * All that matters is in [store] after every change, so that a presenter made anew goes on where the last one ended.
 *
 * @param worker runs one task after another
 * @param main runs a task on the main thread
 * @param makeSeed a new run's seed
 * @param log gets the library's own lines of what failed
 */
class Presenter(
    private val shelf: Shelf,
    private val store: SessionStore,
    private val engine: Engine,
    private val decoder: PhotoDecoder,
    private val worker: Executor,
    private val main: Executor,
    private val makeSeed: () -> Long,
    private val log: (String) -> Unit = {},
) {
    private var session = store.load()
    private val governor = Governor()
    private var stretch: Stretch? = null
    private var smoothed = Smoothed()
    private var pauseAfter: Pause? = null
    private val observers = mutableListOf<(UiState) -> Unit>()

    @Volatile
    private var isCancelled = false

    /** What the screens show now. */
    var state = UiState()
        private set

    init {
        restore()
    }

    /** Calls [show] now and at every change until the result is closed. */
    fun observe(show: (UiState) -> Unit): AutoCloseable {
        observers += show
        show(state)
        return AutoCloseable { observers -= show }
    }

    // The first screen

    fun chooseBundle(name: String) = choose(state.bundles.firstOrNull { it.name == name })

    /** Copies a bundle into the app's folder and chooses it. */
    fun takeBundle(source: Source) = work(Work.Kind.COPYING_BUNDLE) {
        val taken = shelf.take(source, { bytes -> main.execute { progressed(bytes) } }, { isCancelled })
        main.execute {
            show { copy(bundles = shelf.list()) }
            if (taken != null) {
                choose(taken)
                say(Message(Key.BUNDLE_READY, taken.name))
            }
        }
    }

    fun removeBundle(name: String) {
        shelf.remove(name)
        show { copy(bundles = shelf.list()) }
        if (session.bundle == name) choose(state.bundles.firstOrNull())
    }

    /** Ends copying a bundle; nothing of it stays. */
    fun cancel() {
        isCancelled = true
    }

    /** Copies photos and checks that each can be decoded; unreadable ones are left out and counted. */
    fun addPhotos(photos: List<() -> InputStream>) {
        val room = MAX_PHOTOS - session.photos.size
        work(Work.Kind.READING_PHOTOS) {
            val side = session.bundle?.let { name -> shelf.list().firstOrNull { it.name == name }?.resolution } ?: MIN_SIDE
            val kept = photos.take(room).mapNotNull { keep(it, side) }
            main.execute {
                change { copy(photos = this.photos + kept) }
                val unreadable = minOf(photos.size, room) - kept.size
                if (unreadable > 0) say(Message(Key.PHOTOS_UNREADABLE, unreadable, minOf(photos.size, room)))
                if (photos.size > room) say(Message(Key.PHOTOS_TOO_MANY, MAX_PHOTOS))
            }
        }
    }

    fun removePhoto(index: Int) {
        change { copy(photos = photos.filterIndexed { i, _ -> i != index }) }
        store.keepPhotos(session.photos)
    }

    /** The new word as the person types it; it is kept by [hide]. */
    fun setWord(word: String) {
        session = session.copy(word = word)
        show { copy(word = word) }
    }

    fun setInitializer(word: String) = change { copy(initializer = word) }

    /** Begins to learn. */
    fun start() {
        if (!state.canStart) return
        store.dropResult()
        val word = session.word.trim().removeSurrounding("<", ">")
        change {
            copy(stage = Stage.LEARNING, word = "<$word>", digest = state.bundle?.digest, seed = makeSeed(), step = 0, steps = 0,
                lossBefore = null, lossAfter = null, isPausedByPerson = false)
        }
        show { copy(screen = Screen.LEARNING, learning = Learning(), result = Result()) }
        learn()
    }

    // The second screen

    /** Rests until [goOn]. */
    fun pause() {
        if (state.learning.phase == Phase.PAUSED) {
            change { copy(isPausedByPerson = true) }
            show { copy(learning = learning.copy(pause = Pause.PERSON)) }
        } else {
            stop(Pause.PERSON)
        }
    }

    /** Goes on, unless the phone still needs a rest. */
    fun goOn() {
        if (state.screen != Screen.LEARNING || state.learning.phase != Phase.PAUSED) return
        change { copy(isPausedByPerson = false) }
        val pause = governor.decide(state.reading)
        if (pause == null) learn() else show { copy(learning = learning.copy(pause = pause)) }
    }

    /** Ends learning and keeps what was learned so far; before the first step it leads back to the first screen. */
    fun finish() {
        if (state.screen != Screen.LEARNING) return
        when (state.learning.phase) {
            Phase.PAUSED -> if (store.checkpoint() == null) startAgain() else learn(Stretch.Stop.FINISH)
            else -> {
                stretch?.stop = Stretch.Stop.FINISH
                show { copy(learning = learning.copy(phase = Phase.STOPPING)) }
            }
        }
    }

    /** What the phone tells about itself: pauses and goes on. */
    fun read(reading: Reading) {
        show { copy(reading = reading) }
        if (state.screen != Screen.LEARNING) return
        val needed = governor.decide(reading)
        val learning = state.learning
        when {
            needed != null && learning.phase in listOf(Phase.PREPARING, Phase.RUNNING) -> stop(needed)
            needed == null && learning.phase == Phase.PAUSED && learning.pause?.isAutomatic == true -> learn()
            needed != null && learning.phase == Phase.PAUSED && learning.pause?.isAutomatic == true ->
                show { copy(learning = learning.copy(pause = needed)) }
        }
    }

    // The third screen

    /** Draws a picture of the person's own prompt. */
    fun draw(prompt: String) {
        if (session.word !in prompt) return say(Message(Key.PROMPT_WITHOUT_WORD, session.word))
        change { copy(prompt = prompt) }
        show { copy(result = result.copy(prompt = prompt)) }
        drawAll(listOf(PictureKind.OWN))
    }

    /** The token was saved or shared: leaving the screen loses nothing. */
    fun keep() {
        show { copy(result = result.copy(isKept = true)) }
        say(Message(Key.SAVED))
    }

    /** Back to the first screen, with the photos; what was learned is deleted. */
    fun startAgain() {
        store.dropResult()
        change { copy(stage = Stage.CHOOSING, word = word.removeSurrounding("<", ">")) }
        show { copy(screen = Screen.CHOOSING, learning = Learning(), result = Result(), message = null) }
    }

    // Everywhere

    /** The app is on the screen: what was interrupted goes on. */
    fun appear() {
        show { copy(bundles = shelf.list()) }
        when {
            state.screen == Screen.LEARNING && state.learning.pause == Pause.INTERRUPTED -> goOn()
            state.screen == Screen.RESULT -> drawMissing()
            state.screen == Screen.CHOOSING && state.bundle == null -> choose(state.bundles.firstOrNull())
        }
    }

    /** The app is no longer on the screen. */
    fun hide() = change { this }

    /** Says something until [dismiss]. */
    fun say(message: Message) {
        message.detail?.let(log)
        show { copy(message = message) }
    }

    fun dismiss() = show { copy(message = null) }

    private fun restore() {
        store.keepPhotos(session.photos)
        val bundles = shelf.list()
        val bundle = bundles.firstOrNull { it.name == session.bundle }
        val pause = if (session.isPausedByPerson) Pause.PERSON else Pause.INTERRUPTED
        state = UiState(
            screen = Screen.valueOf(session.stage.name),
            bundles = bundles,
            bundle = bundle,
            photos = session.photos.map(store::photoFile),
            word = session.word,
            initializer = session.initializer,
            learning = Learning(Phase.PAUSED, pause, session.step, session.steps, heldOutBefore = session.lossBefore),
            result = resultOf(session),
        )
        if (session.stage == Stage.LEARNING && (bundle == null || bundle.digest != session.digest)) {
            say(Message(if (bundle == null) Key.BUNDLE_MISSING else Key.BUNDLE_CHANGED, session.bundle.orEmpty()))
            show { copy(learning = learning.copy(pause = Pause.FAILED)) }
        }
    }

    private fun resultOf(session: Session) = if (session.stage != Stage.RESULT) Result() else Result(
        store.token, session.lossBefore, session.lossAfter, session.prompt,
        store.picture(PictureKind.BEFORE), store.picture(PictureKind.AFTER), store.picture(PictureKind.OWN),
    )

    private fun choose(bundle: BundleInfo?) {
        val words = bundle?.initializers.orEmpty()
        val word = session.initializer.takeIf { it in words } ?: bundle?.initializer ?: words.firstOrNull().orEmpty()
        change { copy(bundle = bundle?.name, initializer = word) }
        show { copy(bundle = bundle) }
    }

    private fun keep(open: () -> InputStream, side: Int): String? {
        val name = try {
            open().use(store::addPhoto)
        } catch (error: Exception) { // a provider may throw anything
            log("a photo cannot be copied: $error")
            return null
        }
        return try {
            decoder.decode(store.photoFile(name), side)
            name
        } catch (error: UnreadablePhoto) {
            log("a photo cannot be read: ${error.message}")
            store.photoFile(name).delete()
            null
        }
    }

    private fun learn(stop: Stretch.Stop? = null) {
        val begun = session
        val next = Stretch({ open(begun) }, store, decoder, begun)
        next.stop = stop
        stretch = next
        smoothed = Smoothed()
        show { copy(learning = learning.copy(phase = Phase.PREPARING, pause = null, secondsLeft = null), message = null) }
        worker.execute {
            try {
                next.run { event -> main.execute { happened(event) } }
            } catch (problem: Problem) {
                main.execute { failed(problem) }
            }
        }
    }

    private fun open(session: Session): Model {
        val name = session.bundle.orEmpty()
        val folder = shelf.folderOf(name)
        if (!folder.isDirectory) throw Problem(Message(Key.BUNDLE_MISSING, name))
        shelf.examine(folder, name)
        return engine.open(folder)
    }

    private fun stop(pause: Pause) {
        val running = stretch ?: return
        pauseAfter = pause
        running.stop = Stretch.Stop.PAUSE
        if (pause == Pause.PERSON) change { copy(isPausedByPerson = true) }
        show { copy(learning = learning.copy(phase = Phase.STOPPING, pause = pause)) }
    }

    private fun happened(event: Event) {
        when (event) {
            is Event.Stepped -> {
                val (step, steps, loss, left) = event.progress
                smoothed.add(loss)
                session = session.copy(step = step, steps = steps, lossBefore = event.heldOutBefore)
                show {
                    val phase = if (learning.phase == Phase.PREPARING) Phase.RUNNING else learning.phase
                    copy(learning = Learning(phase, learning.pause, step, steps, smoothed.value, event.heldOutBefore, left))
                }
            }
            Event.Paused -> paused()
            is Event.Learned -> {
                stretch = null
                change { copy(stage = Stage.RESULT, lossBefore = event.loss.before, lossAfter = event.loss.after) }
                store.dropCheckpoint()
                show { copy(screen = Screen.RESULT, result = resultOf(session)) }
                drawMissing()
            }
        }
    }

    private fun paused() {
        val finishing = stretch?.stop == Stretch.Stop.FINISH
        stretch = null
        change { this }
        if (finishing) return startAgain() // before the first step
        show { copy(learning = learning.copy(phase = Phase.PAUSED, pause = pauseAfter ?: Pause.INTERRUPTED, secondsLeft = null)) }
        pauseAfter = null
        read(state.reading) // the phone may have recovered meanwhile
    }

    private fun failed(problem: Problem) {
        stretch = null
        say(problem.said)
        if (problem.said.key == Key.WORD_REFUSED) {
            startAgain()
            return say(problem.said)
        }
        show { copy(learning = learning.copy(phase = Phase.PAUSED, pause = Pause.FAILED, secondsLeft = null)) }
    }

    private fun drawMissing() {
        drawAll(listOf(PictureKind.BEFORE, PictureKind.AFTER).filter { store.picture(it) == null })
    }

    private fun drawAll(kinds: List<PictureKind>) {
        if (kinds.isEmpty()) return
        val begun = session
        work(Work.Kind.DRAWING) {
            describingProblems(Key.PICTURE_FAILED) {
                val model = open(begun)
                val token = store.token.readBytes()
                for (kind in kinds) {
                    val prompt = if (kind == PictureKind.OWN) begun.prompt else model.prompt(begun.word)
                    val learned = token.takeIf { kind != PictureKind.BEFORE }
                    store.savePicture(kind, model.draw(prompt, learned, begun.seed))
                    main.execute { show { copy(result = resultOf(session).copy(isKept = result.isKept)) } }
                }
            }
        }
    }

    /** Runs what takes time, one at a time; what it throws is said. */
    private fun work(kind: Work.Kind, action: () -> Unit) {
        if (state.work != null) return
        isCancelled = false
        show { copy(work = Work(kind), message = null) }
        worker.execute {
            val problem = try {
                action()
                null
            } catch (problem: Problem) {
                problem
            }
            main.execute {
                show { copy(work = null) }
                problem?.let { say(it.said) }
            }
        }
    }

    private fun progressed(amount: Long) = show { copy(work = work?.copy(amount = amount)) }

    /** Changes what outlives the process. */
    private fun change(change: Session.() -> Session) {
        session = session.change()
        try {
            store.save(session)
        } catch (error: java.io.IOException) {
            say(Message(Key.NO_SPACE, listOf(0L), error.message))
        }
        show { copy(photos = session.photos.map(store::photoFile), word = session.word, initializer = session.initializer) }
    }

    private fun show(change: UiState.() -> UiState) {
        val next = state.change()
        if (next == state) return
        state = next
        observers.toList().forEach { it(next) }
    }

    companion object {
        const val MAX_PHOTOS = 20
        private const val MIN_SIDE = 64 // no model is smaller
    }
}
