package edge.sdk.app

import android.widget.ProgressBar
import edge.sdk.presenter.Phase
import edge.sdk.presenter.Presenter
import edge.sdk.presenter.UiState

/** The second screen: how far learning is, and how the phone bears it. */
class LearningScreen(activity: MainActivity, private val presenter: Presenter) : ScreenView(activity, R.id.learning) {
    private val bar: ProgressBar = activity.findViewById(R.id.learning_bar)

    init {
        onClick(R.id.pause) { presenter.learning.pause() }
        onClick(R.id.go_on) { presenter.learning.goOn() }
        onClick(R.id.finish) { presenter.learning.finish() }
        onClick(R.id.discard) {
            activity.confirm(activity.getString(R.string.discard_question), R.string.discard) { presenter.learning.discard() }
        }
    }

    override fun show(state: UiState) {
        val learning = state.learning
        val reading = state.reading
        fun line(id: Int, vararg values: Any?) = values.takeIf { null !in it }?.let { activity.getString(id, *it) }
        setText(R.id.learning_title, activity.getString(R.string.learning_title, state.word))
        setText(R.id.learning_status, activity.getString(idOf(learning.phase, learning.pause)))
        bar.isIndeterminate = learning.steps == 0 && learning.phase != Phase.PAUSED
        bar.max = maxOf(1, learning.steps)
        bar.progress = learning.step
        setText(R.id.step_line, if (learning.steps == 0) null else line(R.string.step_line, learning.step, learning.steps))
        setText(R.id.time_left, line(R.string.time_left, learning.secondsLeft?.let(::clock)))
        setText(R.id.loss_line, line(R.string.loss_line, learning.loss))
        setText(R.id.held_out_line, line(R.string.held_out_line, learning.heldOutBefore))
        setText(R.id.memory_line, line(R.string.memory_line, reading.memory))
        setText(R.id.temperature_line, line(R.string.temperature_line, reading.temperature))
        setText(R.id.battery_line, line(R.string.battery_line, reading.battery))
        val isPaused = learning.phase == Phase.PAUSED
        show(R.id.pause, !isPaused || learning.pause?.isAutomatic == true)
        show(R.id.go_on, isPaused && learning.pause?.isAutomatic != true)
        show(R.id.discard, isPaused)
        enable(R.id.pause, learning.phase != Phase.STOPPING)
        enable(R.id.finish, learning.phase != Phase.STOPPING && learning.step > 0)
    }
}
