package edge.sdk.app

import android.app.Activity
import android.app.AlertDialog
import android.content.ActivityNotFoundException
import android.content.Intent
import android.content.pm.PackageManager
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.view.View
import android.view.WindowInsets
import android.widget.Button
import android.widget.ScrollView
import android.widget.TextView
import android.widget.Toast
import android.window.OnBackInvokedCallback
import android.window.OnBackInvokedDispatcher
import edge.sdk.presenter.Screen
import edge.sdk.presenter.UiState
import edge.sdk.presenter.Work

/**
 * The one window. It draws what the presenter shows and hands on what the person does; it may be destroyed at any time.
 */
class MainActivity : Activity() {
    private val presenter get() = edge.presenter
    private lateinit var screens: Map<Screen, ScreenView>
    private var observer: AutoCloseable? = null
    private var shown: Screen? = null

    // Kept as Any: the callback's class is missing before Android 13.
    private var back: Any? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        screens = mapOf(
            Screen.CHOOSING to ChoosingScreen(this, presenter),
            Screen.LEARNING to LearningScreen(this, presenter),
            Screen.RESULT to ResultScreen(this, presenter),
            Screen.MEASURING to MeasuringScreen(this, presenter),
        )
        findViewById<Button>(R.id.work_cancel).setOnClickListener { presenter.cancel() }
        findViewById<Button>(R.id.message_close).setOnClickListener { presenter.dismiss() }
        fitIntoInsets()
    }

    override fun onStart() {
        super.onStart()
        presenter.appear()
        observer = presenter.observe(::show)
    }

    override fun onStop() {
        observer?.close()
        presenter.hide()
        super.onStop()
    }

    /** The answer of a picker goes to the screen that asked. A screen that was made anew meanwhile knows the number, too. */
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        super.onActivityResult(requestCode, resultCode, data)
        if (resultCode == RESULT_OK && data != null) screens.values.forEach { it.answered(requestCode, data) }
    }

    /** Before Android 13. */
    @Deprecated("Deprecated in API 33")
    override fun onBackPressed() {
        if (presenter.state.screen == Screen.MEASURING) {
            presenter.measuring.close()
        } else {
            @Suppress("DEPRECATION")
            super.onBackPressed()
        }
    }

    /** Asks another app; a phone without one says so. */
    fun ask(intent: Intent, number: Int) = try {
        startActivityForResult(intent, number)
    } catch (_: ActivityNotFoundException) {
        Toast.makeText(this, R.string.no_picker, Toast.LENGTH_LONG).show()
    }

    /** Asks before something is deleted. */
    fun confirm(question: String, yes: Int, action: () -> Unit) {
        AlertDialog.Builder(this).setMessage(question)
            .setPositiveButton(yes) { _, _ -> action() }
            .setNegativeButton(R.string.cancel, null)
            .show()
    }

    /** Asks once for the notification; learning does not wait for the answer, and does without. */
    fun askForNotification() {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.TIRAMISU) return
        val permission = android.Manifest.permission.POST_NOTIFICATIONS
        if (checkSelfPermission(permission) != PackageManager.PERMISSION_GRANTED) requestPermissions(arrayOf(permission), 0)
    }

    private fun show(state: UiState) {
        show(R.id.message, state.message != null)
        state.message?.let { setText(R.id.message_text, sentence(it)) }
        show(R.id.work, state.work != null)
        show(R.id.work_cancel, state.work?.isCancellable == true)
        state.work?.let { setText(R.id.work_line, lineOf(it)) }
        for ((screen, view) in screens) {
            view.root.visibility = if (screen == state.screen) View.VISIBLE else View.GONE
            if (screen == state.screen) view.show(state)
        }
        if (shown != null && shown != state.screen) findViewById<ScrollView>(R.id.root).scrollTo(0, 0)
        shown = state.screen
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU) leaveMeasuringByBack(state.screen == Screen.MEASURING)
    }

    private fun lineOf(work: Work): String = when (work.kind) {
        Work.Kind.COPYING_BUNDLE -> getString(R.string.work_copying_bundle, work.amount / 1e6)
        Work.Kind.READING_PHOTOS -> getString(R.string.work_reading_photos)
        Work.Kind.DRAWING -> getString(R.string.work_drawing)
        Work.Kind.MEASURING -> getString(R.string.work_measuring, work.amount)
    }

    /** Android draws what lies behind before the gesture ends, so it must know beforehand that back is taken here. */
    private fun leaveMeasuringByBack(isWanted: Boolean) {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.TIRAMISU || isWanted == (back != null)) return
        if (isWanted) {
            val callback = OnBackInvokedCallback { presenter.measuring.close() }
            onBackInvokedDispatcher.registerOnBackInvokedCallback(OnBackInvokedDispatcher.PRIORITY_DEFAULT, callback)
            back = callback
        } else {
            onBackInvokedDispatcher.unregisterOnBackInvokedCallback(back as OnBackInvokedCallback)
            back = null
        }
    }

    /** From Android 15 on the window reaches under bars, cut-outs, and keyboard; the page keeps clear of them. */
    private fun fitIntoInsets() {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) return // the window keeps clear by itself
        findViewById<ScrollView>(R.id.root).setOnApplyWindowInsetsListener { view, insets ->
            val kinds = WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout() or WindowInsets.Type.ime()
            val edges = insets.getInsets(kinds)
            view.setPadding(edges.left, edges.top, edges.right, edges.bottom)
            WindowInsets.CONSUMED
        }
    }
}

/** One screen's views. */
abstract class ScreenView(protected val activity: MainActivity, id: Int) {
    val root: View = activity.findViewById(id)

    /** Draws a state. */
    abstract fun show(state: UiState)

    /** Takes what a picker answers; numbers of other screens are left alone. */
    open fun answered(number: Int, data: Intent) = Unit

    protected fun onClick(id: Int, action: () -> Unit) = activity.findViewById<View>(id).setOnClickListener { action() }

    protected fun setText(id: Int, text: String?) = activity.setText(id, text)

    protected fun show(id: Int, isShown: Boolean) = activity.show(id, isShown)

    protected fun enable(id: Int, isEnabled: Boolean) {
        activity.findViewById<View>(id).isEnabled = isEnabled
    }
}

/** Sets a text, and hides the view where there is none. A text that stays is not set again: TalkBack would read it again. */
fun Activity.setText(id: Int, text: String?) {
    val view = findViewById<TextView>(id)
    view.visibility = if (text == null) View.GONE else View.VISIBLE
    if (text != null && view.text.toString() != text) view.text = text
}

fun Activity.show(id: Int, isShown: Boolean) {
    findViewById<View>(id).visibility = if (isShown) View.VISIBLE else View.GONE
}

/** What a picker for several things has answered. */
fun urisOf(data: Intent): List<Uri> =
    data.clipData?.let { clip -> (0 until clip.itemCount).map { clip.getItemAt(it).uri } } ?: listOfNotNull(data.data)
