package edge.sdk.app

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.app.Service
import android.content.Context
import android.content.Intent
import android.content.pm.ServiceInfo
import android.os.Build
import android.os.Handler
import android.os.IBinder
import android.os.Looper
import android.os.PowerManager
import android.util.Log
import edge.sdk.presenter.Phase
import edge.sdk.presenter.Screen
import edge.sdk.presenter.UiState
import edge.sdk.presenter.Work

/**
 * Keeps the app working while it is not on the screen, and says so in a notification.
 *
 * It holds no state: the presenter does, on disk. Its type is specialUse, see the manifest; that type has no time limit
 * today, and [onTimeout] pauses should it get one. While learning waits for the phone to cool down or to be charged, the
 * service stays in the foreground: Android would not let it come back there from the background.
 */
open class WorkService : Service() {
    private var observer: AutoCloseable? = null
    private lateinit var awake: PowerManager.WakeLock
    private val handler = Handler(Looper.getMainLooper())

    /** Runs a little after the last work: what follows at once, as pictures follow learning, finds the service running. */
    private val stop = Runnable {
        stopForeground(STOP_FOREGROUND_REMOVE)
        stopSelf()
    }

    override fun onCreate() {
        super.onCreate()
        isRunning = true
        // Updates are silent; a person who refuses notifications still finds the service in the list of active apps.
        val channel = NotificationChannel(CHANNEL, getString(R.string.notification_channel), NotificationManager.IMPORTANCE_LOW)
        getSystemService(NotificationManager::class.java).createNotificationChannel(channel)
        awake = getSystemService(PowerManager::class.java).newWakeLock(PowerManager.PARTIAL_WAKE_LOCK, "edge-sdk:work")
        awake.setReferenceCounted(false)
    }

    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        if (!enterForeground()) {
            stopSelf()
            return START_NOT_STICKY
        }
        val presenter = edge.presenter
        // Without an intent Android has restarted the service after it had ended the process.
        if (intent == null) presenter.appear()
        if (intent?.action == ACTION_PAUSE) presenter.learning.pause()
        begin(intent)
        if (observer == null) observer = presenter.observe(::follow)
        return START_STICKY
    }

    /** What a subclass adds to a start. */
    protected open fun begin(intent: Intent?) = Unit

    override fun onBind(intent: Intent?): IBinder? = null

    /** The time that Android gives this type is up: a few seconds are left to stop. From Android 15 on. */
    override fun onTimeout(startId: Int, fgsType: Int) {
        edge.presenter.learning.interrupt()
        stopSelf()
    }

    override fun onDestroy() {
        isRunning = false
        handler.removeCallbacks(stop)
        observer?.close()
        awake.release()
        super.onDestroy()
    }

    private fun follow(state: UiState) {
        handler.removeCallbacks(stop)
        if (!state.isBusy) {
            handler.postDelayed(stop, STOP_MILLISECONDS)
            return
        }
        if (state.needsProcessor) awake.acquire(AWAKE_MILLISECONDS) else awake.release()
        getSystemService(NotificationManager::class.java).notify(NOTIFICATION, notification(state))
    }

    private fun enterForeground(): Boolean = try {
        val notification = notification(edge.presenter.state)
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.UPSIDE_DOWN_CAKE) {
            startForeground(NOTIFICATION, notification, ServiceInfo.FOREGROUND_SERVICE_TYPE_SPECIAL_USE)
        } else {
            startForeground(NOTIFICATION, notification)
        }
        true
    } catch (error: IllegalStateException) { // ForegroundServiceStartNotAllowedException, from Android 12 on
        Log.w(EdgeApplication.TAG, "learning goes on when the app is opened: $error")
        false
    }

    private fun notification(state: UiState): Notification {
        val open = PendingIntent.getActivity(this, 0, Intent(this, MainActivity::class.java), PendingIntent.FLAG_IMMUTABLE)
        val builder = Notification.Builder(this, CHANNEL)
            .setSmallIcon(R.drawable.notification)
            .setContentTitle(titleOf(state))
            .setContentIntent(open)
            .setOngoing(true)
            .setOnlyAlertOnce(true)
            .setCategory(Notification.CATEGORY_PROGRESS)
        if (state.work == null && state.screen == Screen.LEARNING) {
            val learning = state.learning
            builder.setContentText(getString(idOf(learning.phase, learning.pause)))
            builder.setProgress(learning.steps, learning.step, learning.steps == 0)
            if (learning.phase == Phase.RUNNING || learning.phase == Phase.PREPARING) {
                val pause = Intent(this, WorkService::class.java).setAction(ACTION_PAUSE)
                val intent = PendingIntent.getService(this, 0, pause, PendingIntent.FLAG_IMMUTABLE)
                builder.addAction(Notification.Action.Builder(null, getString(R.string.pause), intent).build())
            }
        }
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) {
            builder.setForegroundServiceBehavior(Notification.FOREGROUND_SERVICE_IMMEDIATE)
        }
        return builder.build()
    }

    private fun titleOf(state: UiState): String = when (state.work?.kind) {
        Work.Kind.MEASURING -> getString(R.string.notification_measuring)
        Work.Kind.DRAWING -> getString(R.string.notification_drawing)
        Work.Kind.COPYING_BUNDLE, Work.Kind.READING_PHOTOS -> getString(R.string.notification_copying)
        null -> getString(R.string.notification_learning, state.word)
    }

    companion object {
        private const val CHANNEL = "work"
        private const val NOTIFICATION = 1
        private const val ACTION_PAUSE = "edge.sdk.app.PAUSE"
        private const val STOP_MILLISECONDS = 1_000L
        private const val AWAKE_MILLISECONDS = 10 * 60_000L // renewed at every step; a lock that is lost ends by itself

        /** Whether a service of this class or a subclass runs. Main thread. */
        private var isRunning = false

        /** Starts the service unless it runs. From the background Android may refuse; then the work ends with the process. */
        fun start(context: Context) {
            if (isRunning) return
            try {
                context.startForegroundService(Intent(context, WorkService::class.java))
                isRunning = true
            } catch (error: IllegalStateException) {
                Log.w(EdgeApplication.TAG, "there is no service for the background: $error")
            }
        }
    }
}
