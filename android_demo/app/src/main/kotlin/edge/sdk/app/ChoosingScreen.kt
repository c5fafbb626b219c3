package edge.sdk.app

import android.app.AlertDialog
import android.content.Intent
import android.os.Build
import android.provider.MediaStore
import android.text.Editable
import android.text.TextWatcher
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.EditText
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.Spinner
import edge.sdk.presenter.ChoosingPresenter
import edge.sdk.presenter.Presenter
import edge.sdk.presenter.UiState
import java.io.File

/** The first screen: a model, photos, a word. */
class ChoosingScreen(activity: MainActivity, private val presenter: Presenter) : ScreenView(activity, R.id.choosing) {
    private val word: EditText = activity.findViewById(R.id.word)
    private val initializer: Spinner = activity.findViewById(R.id.initializer)
    private val photos: LinearLayout = activity.findViewById(R.id.photos)
    private val thumbnails = Thumbnails(activity)
    private var shownPhotos = emptyList<File>()
    private var shownWords = emptyList<String>()

    init {
        onClick(R.id.bundle_choose, ::chooseBundle)
        onClick(R.id.photos_choose, ::choosePhotos)
        onClick(R.id.measure) { presenter.measuring.open() }
        onClick(R.id.start) {
            activity.askForNotification()
            presenter.choosing.start()
        }
        word.addTextChangedListener(object : TextWatcher {
            override fun afterTextChanged(text: Editable) {
                if (text.toString() != presenter.state.word) presenter.choosing.setWord(text.toString())
            }

            override fun beforeTextChanged(text: CharSequence, start: Int, count: Int, after: Int) = Unit

            override fun onTextChanged(text: CharSequence, start: Int, before: Int, count: Int) = Unit
        })
        initializer.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(parent: AdapterView<*>, view: View?, position: Int, id: Long) {
                val chosen = shownWords[position]
                if (chosen != presenter.state.initializer) presenter.choosing.setInitializer(chosen)
            }

            override fun onNothingSelected(parent: AdapterView<*>) = Unit
        }
    }

    override fun show(state: UiState) {
        val bundle = state.bundle
        setText(R.id.bundle_name, bundle?.name ?: activity.getString(R.string.bundle_none))
        setText(R.id.bundle_line, bundle?.let { activity.getString(R.string.bundle_line, it.model, it.weights, it.megabytes) })
        val count = state.photos.size
        val none = activity.getString(R.string.photos_none)
        setText(R.id.photos_count, if (count == 0) none else activity.getString(R.string.photos_count, count))
        if (state.photos != shownPhotos) showPhotos(state.photos)
        if (word.text.toString() != state.word) word.setText(state.word)
        showWords(bundle?.initializers.orEmpty(), state.initializer)
        enable(R.id.start, state.canStart)
        for (id in listOf(R.id.bundle_choose, R.id.photos_choose, R.id.measure)) enable(id, state.work == null)
    }

    override fun answered(number: Int, data: Intent) {
        val resolver = activity.applicationContext.contentResolver // outlives this window
        when (number) {
            PHOTOS -> presenter.choosing.addPhotos(urisOf(data).map { uri -> { resolver.open(uri) } })
            FOLDER -> data.data?.let { presenter.choosing.takeBundle { TreeSource(resolver, it) } }
            ZIP -> data.data?.let { presenter.choosing.takeBundle { resolver.zipSource(it) } }
        }
    }

    private fun showPhotos(files: List<File>) {
        shownPhotos = files
        photos.removeAllViews()
        files.forEachIndexed { index, file ->
            val view = ImageView(activity)
            view.contentDescription = activity.getString(R.string.photo_remove, index + 1, files.size)
            view.scaleType = ImageView.ScaleType.CENTER_CROP
            view.setOnClickListener { presenter.choosing.removePhoto(index) }
            val side = activity.resources.getDimensionPixelSize(R.dimen.thumbnail)
            photos.addView(view, LinearLayout.LayoutParams(side, side).apply { marginEnd = side / 12 })
            thumbnails.load(file, side, view)
        }
    }

    private fun showWords(words: List<String>, chosen: String) {
        if (words != shownWords) {
            shownWords = words
            val adapter = ArrayAdapter(activity, android.R.layout.simple_spinner_item, words)
            adapter.setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item)
            initializer.adapter = adapter
        }
        val position = words.indexOf(chosen)
        if (position >= 0 && position != initializer.selectedItemPosition) initializer.setSelection(position)
    }

    private fun choosePhotos() {
        val picker = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU) {
            // The system's photo picker: the app sees what the person chooses, and needs no permission.
            Intent(MediaStore.ACTION_PICK_IMAGES)
                .putExtra(MediaStore.EXTRA_PICK_IMAGES_MAX, ChoosingPresenter.MAX_PHOTOS)
        } else {
            Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE)
                .putExtra(Intent.EXTRA_ALLOW_MULTIPLE, true)
        }
        activity.ask(picker.setType("image/*"), PHOTOS)
    }

    /** Every way to a model in one list: those here, those that a computer has put beside the app, and the file picker. */
    private fun chooseBundle() {
        val state = presenter.state
        val here = state.bundles.map { it.name to { presenter.choosing.chooseBundle(it.name) } }
        val pushed = presenter.choosing.sources().map { source ->
            activity.getString(R.string.bundle_copy, source.name) to { presenter.choosing.takeBundle { source } }
        }
        val picked = listOf(
            activity.getString(R.string.bundle_from_folder) to { activity.ask(Intent(Intent.ACTION_OPEN_DOCUMENT_TREE), FOLDER) },
            activity.getString(R.string.bundle_from_zip) to {
                val open = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE)
                activity.ask(open.setType("application/zip"), ZIP)
            },
        )
        val removal = state.bundle?.let { bundle ->
            activity.getString(R.string.bundle_remove) to {
                activity.confirm(activity.getString(R.string.bundle_remove_question, bundle.name), R.string.remove) {
                    presenter.choosing.removeBundle(bundle.name)
                }
            }
        }
        val choices = here + pushed + picked + listOfNotNull(removal)
        AlertDialog.Builder(activity).setTitle(R.string.bundle_choose)
            .setItems(choices.map { it.first }.toTypedArray()) { _, which -> choices[which].second() }
            .show()
    }

    private companion object {
        const val PHOTOS = 1
        const val FOLDER = 2
        const val ZIP = 3
    }
}
