package edge.sdk.app

import android.app.Application
import android.content.Context
import android.os.Handler
import android.os.Looper
import android.system.Os
import android.util.Log
import edge.sdk.measure.MeasureOptions
import edge.sdk.measure.Measurement
import edge.sdk.ort.OrtLoader
import edge.sdk.ort.Telemetry
import edge.sdk.presenter.BundleEngine
import edge.sdk.presenter.FolderSource
import edge.sdk.presenter.Presenter
import edge.sdk.presenter.SessionStore
import edge.sdk.presenter.Shelf
import edge.sdk.presenter.Source
import edge.sdk.presenter.UiState
import edge.sdk.presenter.ZipSource
import edge.sdk.runtime.Bundle
import edge.sdk.runtime.JsonObject
import java.io.File
import java.security.SecureRandom
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
    private val exchange: File? get() = getExternalFilesDir(null)

    override fun onCreate() {
        // Before any class of ONNX Runtime is loaded: from 1.29 on it sends telemetry, and later calls come too late.
        Telemetry.switchOff { name, value -> Os.setenv(name, value, true) }
        super.onCreate()
        val handler = Handler(Looper.getMainLooper())
        readings = PhoneReadings(this, handler) { presenter.learning.read(it) }
        presenter = Presenter(
            shelf = Shelf(File(filesDir, "bundles"), { Bundle.open(it) }),
            store = SessionStore(File(filesDir, "session")),
            engine = BundleEngine(OrtLoader(THREADS)),
            decoder = ImagePhotoDecoder(),
            measurer = ::measure,
            pushed = ::pushedBundles,
            records = File(exchange ?: filesDir, "records"),
            worker = Executors.newSingleThreadExecutor { task -> Thread(task, "worker") },
            main = { task -> handler.post(task) },
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

    private fun pushedBundles(): List<Source> =
        File(exchange, "bundles").listFiles().orEmpty().sorted().mapNotNull { file ->
            when {
                file.isDirectory -> FolderSource(file)
                file.extension == "zip" -> ZipSource(file.name) { file.inputStream() }
                else -> null
            }
        }

    private fun measure(bundle: File, steps: Int?, threads: Int?, onStep: (Int) -> Boolean): JsonObject? {
        val options = MeasureOptions(
            command = "edge.sdk.app/.MeasureService ${bundle.name}",
            client = "edge-sdk ${packageManager.getPackageInfo(packageName, 0).versionName} (Kotlin)",
            onnxruntime = OrtLoader.version(),
            threads = threads ?: THREADS,
            steps = steps,
        )
        return Measurement(Bundle.open(bundle), OrtLoader(options.threads), AndroidDevice(readings), options).run(onStep)
    }

    companion object {
        const val TAG = "edge-sdk"

        /** Of one operator. More make the phone hot and the screen stutter, and gain little. */
        private const val THREADS = 2
    }
}

/** The application, from any part of the app. */
val Context.edge: EdgeApplication get() = applicationContext as EdgeApplication
