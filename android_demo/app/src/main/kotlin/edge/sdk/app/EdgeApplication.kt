package edge.sdk.app

import android.app.Application
import android.os.Handler
import android.os.Looper
import android.system.Os
import android.util.Log
import edge.sdk.ort.OrtGraphLoader
import edge.sdk.presenter.BundleEngine
import edge.sdk.presenter.Presenter
import edge.sdk.presenter.SessionStore
import edge.sdk.presenter.Shelf
import edge.sdk.presenter.UiState
import edge.sdk.runtime.Bundle
import java.io.File
import java.security.SecureRandom
import java.util.concurrent.Executor
import java.util.concurrent.Executors

/**
 * Holds the presenter, for as long as the process lives: screens come and go with every turn of the phone, and the service
 * works without one.
 */
class EdgeApplication : Application() {
    lateinit var presenter: Presenter
        private set
    lateinit var readings: PhoneReadings
        private set

    /** Where `adb push` may put bundles, and `adb pull` finds device records: both without root. */
    val exchange: File? get() = getExternalFilesDir(null)

    override fun onCreate() {
        // Before any class of ONNX Runtime is loaded: from 1.29 on it sends telemetry, and later calls come too late.
        Os.setenv("ORT_DISABLE_TELEMETRY", "1", true)
        super.onCreate()
        val handler = Handler(Looper.getMainLooper())
        val main = Executor { task -> handler.post(task) }
        val graphs = OrtGraphLoader()
        readings = PhoneReadings(this, handler) { presenter.learning.read(it) }
        presenter = Presenter(
            shelf = Shelf(File(filesDir, "bundles"), { Bundle.open(it) }),
            store = SessionStore(File(filesDir, "session")),
            engine = BundleEngine(graphs),
            decoder = ImagePhotoDecoder(),
            worker = Executors.newSingleThreadExecutor { task -> Thread(task, "edge-sdk") },
            main = main,
            makeSeed = { SecureRandom().nextLong() },
            log = { line -> Log.w(TAG, line) },
        )
        presenter.observe(::follow)
    }

    /** Work needs the service, or Android ends it soon after the app has left the screen. */
    private fun follow(state: UiState) {
        readings.isActive = state.isBusy
        if (state.isBusy) WorkService.start(this)
    }

    companion object {
        const val TAG = "edge-sdk"
    }
}

/** The application, from any part of the app. */
val android.content.Context.edge: EdgeApplication get() = applicationContext as EdgeApplication
