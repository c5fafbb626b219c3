package edge.sdk.app

import android.content.ActivityNotFoundException
import android.widget.Toast
import edge.sdk.presenter.Presenter
import edge.sdk.presenter.UiState
import java.io.IOException

/** The screen for engineers: one whole run, noted in one file. */
class MeasuringScreen(activity: MainActivity, private val presenter: Presenter) : ScreenView(activity, R.id.measuring) {
    init {
        onClick(R.id.measuring_start) { presenter.measuring.start() }
        onClick(R.id.measuring_share, ::share)
        onClick(R.id.measuring_close) { presenter.measuring.close() }
    }

    override fun show(state: UiState) {
        val record = state.record
        setText(R.id.measuring_bundle, state.bundle?.name ?: activity.getString(R.string.bundle_none))
        setText(R.id.measuring_record, record?.let { "${it.name}\n${it.readText()}" })
        show(R.id.measuring_share, record != null)
        enable(R.id.measuring_start, state.work == null && state.bundle != null)
        enable(R.id.measuring_close, state.work == null)
    }

    private fun share() {
        val record = presenter.state.record ?: return
        try {
            activity.startActivity(ShareProvider.share(activity, record, record.name))
        } catch (error: IOException) {
            presenter.result.savingFailed("$error")
        } catch (_: ActivityNotFoundException) {
            Toast.makeText(activity, R.string.no_picker, Toast.LENGTH_LONG).show()
        }
    }
}
