package edge.sdk.presenter

/** The second screen: learning, resting, going on. */
class LearningPresenter internal constructor(
    private val board: Board,
    private val decoder: PhotoDecoder,
    private val open: (Session) -> Model,
    private val learned: () -> Unit,
) {
    private val governor = Governor()
    private var stretch: Stretch? = null
    private var smoothed = Smoothed()
    private val now get() = board.state.learning

    /** Rests until the person goes on. */
    fun pause() {
        board.change { copy(isPausedByPerson = true) }
        if (now.phase == Phase.PAUSED) setPaused(Pause.PERSON) else stop(Stretch.Stop.PAUSE, Pause.PERSON)
    }

    /** Goes on, unless the phone still needs a rest. */
    fun goOn() {
        if (board.state.screen != Screen.LEARNING || now.phase != Phase.PAUSED) return
        board.change { copy(isPausedByPerson = false, attempts = 0) }
        begin()
    }

    /** The app is on the screen or Android has restarted it: what was interrupted goes on, but not for ever. */
    internal fun resume() {
        if (now.phase != Phase.PAUSED || now.pause != Pause.INTERRUPTED) return
        if (board.session.attempts < MAX_ATTEMPTS) begin() else setPaused(Pause.FAILED)
    }

    /** Ends learning and keeps what was learned so far; before the first step it leads back to the first screen. */
    fun finish() = when {
        now.phase != Phase.PAUSED -> stop(Stretch.Stop.FINISH, null)
        board.store.token.isFile -> happened(Event.Learned(HeldOut(board.session.lossBefore, null)))
        else -> board.startAgain()
    }

    /** Discards a run that rests; the photos stay. */
    fun discard() {
        if (now.phase == Phase.PAUSED) board.startAgain()
    }

    /** Android takes the right to work away: rests until the app is on the screen again. */
    fun interrupt() = stop(Stretch.Stop.PAUSE, Pause.INTERRUPTED)

    /** What the phone tells about itself: learning rests and goes on. */
    fun read(reading: Reading) {
        board.show { copy(reading = reading) }
        val needed = governor.decide(reading)
        if (board.state.screen != Screen.LEARNING) return
        val rests = now.phase == Phase.PAUSED && now.pause?.isAutomatic == true
        when {
            rests -> if (needed == null) learn() else setPaused(needed)
            needed != null && (now.phase == Phase.PREPARING || now.phase == Phase.RUNNING) -> stop(Stretch.Stop.PAUSE, needed)
        }
    }

    /** Begins, or goes on from the last checkpoint; a phone that is too warm or empty waits first. */
    internal fun begin() {
        val pause = governor.decide(board.state.reading)
        if (pause == null) learn() else setPaused(pause)
    }

    private fun learn() {
        board.change { copy(attempts = attempts + 1) }
        val begun = board.session
        val next = Stretch({ open(begun) }, board.store, decoder, begun)
        stretch = next
        smoothed = Smoothed()
        board.show {
            copy(learning = learning.copy(phase = Phase.PREPARING, pause = null, secondsLeft = null), message = null)
        }
        board.worker.execute {
            try {
                next.run { event -> board.main.execute { happened(event) } }
            } catch (problem: Problem) {
                board.main.execute { failed(problem) }
            }
        }
    }

    private fun stop(how: Stretch.Stop, pause: Pause?) {
        val running = stretch ?: return
        running.stop = how
        board.show { copy(learning = learning.copy(phase = Phase.STOPPING, pause = pause)) }
    }

    private fun happened(event: Event) {
        when (event) {
            is Event.Stepped -> stepped(event)
            Event.Paused -> paused()
            is Event.Learned -> {
                stretch = null
                board.change { copy(stage = Stage.RESULT, lossBefore = event.loss.before, lossAfter = event.loss.after) }
                learned()
            }
        }
    }

    private fun stepped(event: Event.Stepped) {
        val (step, steps, loss, left) = event.progress
        smoothed.add(loss)
        val isFirst = board.session.attempts > 0
        board.note { copy(step = step, steps = steps, lossBefore = event.heldOutBefore ?: lossBefore, attempts = 0) }
        if (isFirst) board.save()
        board.show {
            val phase = if (learning.phase == Phase.PREPARING) Phase.RUNNING else learning.phase
            copy(learning = Learning(phase, learning.pause, step, steps, smoothed.value, board.session.lossBefore, left))
        }
    }

    private fun paused() {
        val isFinished = stretch?.stop == Stretch.Stop.FINISH // before the first step
        stretch = null
        if (isFinished) return board.startAgain()
        board.save()
        setPaused(now.pause ?: Pause.INTERRUPTED)
        read(board.state.reading) // the phone may have recovered meanwhile
    }

    private fun failed(problem: Problem) {
        stretch = null
        if (problem.said.key == Key.WORD_REFUSED) board.startAgain() else setPaused(Pause.FAILED)
        board.say(problem.said)
    }

    private fun setPaused(pause: Pause) =
        board.show { copy(learning = learning.copy(phase = Phase.PAUSED, pause = pause, secondsLeft = null)) }

    private companion object {
        const val MAX_ATTEMPTS = 3
    }
}
