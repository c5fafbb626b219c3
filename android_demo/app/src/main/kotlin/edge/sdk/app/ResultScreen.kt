package edge.sdk.app

import android.content.ActivityNotFoundException
import android.content.Intent
import android.net.Uri
import android.widget.EditText
import android.widget.ImageView
import android.widget.Toast
import edge.sdk.photos.Photo
import edge.sdk.presenter.Presenter
import edge.sdk.presenter.UiState
import java.io.IOException

/** The third screen: pictures before and after, the person's own, and the word as a file. */
class ResultScreen(activity: MainActivity, private val presenter: Presenter) : ScreenView(activity, R.id.result) {
    private val prompt: EditText = activity.findViewById(R.id.prompt)

    init {
        onClick(R.id.draw) { presenter.result.draw(prompt.text.toString()) }
        onClick(R.id.save) {
            val create = Intent(Intent.ACTION_CREATE_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE)
            activity.ask(create.setType("application/octet-stream").putExtra(Intent.EXTRA_TITLE, FILE_NAME), SAVE)
        }
        onClick(R.id.share, ::share)
        onClick(R.id.start_again) {
            val question = activity.getString(R.string.start_again_question)
            if (presenter.state.result.isKept) presenter.result.startAgain()
            else activity.confirm(question, R.string.delete) { presenter.result.startAgain() }
        }
    }

    override fun show(state: UiState) {
        val result = state.result
        setText(R.id.result_title, activity.getString(R.string.result_title, state.word))
        val (before, after) = result.lossBefore to result.lossAfter
        setText(
            R.id.verdict,
            when {
                before == null -> null
                after == null -> activity.getString(R.string.verdict_before, before)
                else -> activity.getString(R.string.verdict, before, after)
            },
        )
        draw(R.id.picture_before, result.before, activity.getString(R.string.picture_before))
        draw(R.id.picture_after, result.after, activity.getString(R.string.picture_after))
        draw(R.id.picture_own, result.own, activity.getString(R.string.picture_own, result.prompt))
        setText(R.id.prompt_label, activity.getString(R.string.prompt_label, state.word))
        if (prompt.text.isEmpty() && !prompt.hasFocus()) prompt.setText(result.prompt)
        for (id in listOf(R.id.draw, R.id.start_again)) enable(id, state.work == null)
    }

    override fun answered(number: Int, data: Intent) {
        if (number == SAVE) data.data?.let(::save)
    }

    /** A few kilobytes: small enough for the main thread. */
    private fun save(target: Uri) {
        val token = presenter.state.result.token ?: return
        try {
            val out = activity.contentResolver.openOutputStream(target, "wt") ?: throw IOException("no answer")
            out.use { token.inputStream().use { file -> file.copyTo(it) } }
            presenter.result.keep()
        } catch (error: IOException) {
            presenter.result.savingFailed("$error")
        } catch (error: SecurityException) {
            presenter.result.savingFailed("$error")
        }
    }

    private fun share() {
        val token = presenter.state.result.token ?: return
        try {
            activity.startActivity(ShareProvider.share(activity, token, FILE_NAME))
            presenter.result.keep()
        } catch (error: IOException) {
            presenter.result.savingFailed("$error")
        } catch (_: ActivityNotFoundException) {
            Toast.makeText(activity, R.string.no_picker, Toast.LENGTH_LONG).show()
        }
    }

    private fun draw(id: Int, picture: Photo?, description: String) {
        val view = activity.findViewById<ImageView>(id)
        if (view.tag === picture) return
        view.tag = picture
        view.setImageBitmap(picture?.let(::bitmapOf))
        view.contentDescription = if (picture == null) null else description
    }

    private companion object {
        const val SAVE = 4
        const val FILE_NAME = "learned_embeds.safetensors"
    }
}
