package edge.sdk.app

import android.content.Intent
import android.util.Log

/**
 * Measures without the screen, for whoever has the phone at a computer:
 *
 *     adb shell am start-foreground-service -n edge.sdk.app/.MeasureService --es bundle NAME --ei steps 40 --ei threads 2
 *
 * All three are optional: the first bundle, the preset's steps, and the library's threads. The record is written to the
 * app's external folder; the log line of tag "edge-sdk" names it.
 */
class MeasureService : WorkService() {
    override fun begin(intent: Intent?) {
        if (intent == null) return
        edge.presenter.measuring.start(
            bundle = intent.getStringExtra("bundle"),
            steps = intent.getIntExtra("steps", 0).takeIf { it > 0 },
            threads = intent.getIntExtra("threads", 0).takeIf { it > 0 },
        ) { line -> Log.i(EdgeApplication.TAG, line) }
    }
}
