package edge.sdk.app

import android.content.BroadcastReceiver
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.Handler
import android.os.PowerManager
import edge.sdk.measure.ProcessMemory
import edge.sdk.presenter.Reading

/**
 * What the phone tells about itself, handed to [take] on the main thread: at every change of battery and thermal status, and
 * every few seconds for the memory.
 */
class PhoneReadings(private val context: Context, private val handler: Handler, private val take: (Reading) -> Unit) {
    private val power = context.getSystemService(PowerManager::class.java)
    private val memory = ProcessMemory() // resident memory: one short file, where PSS would hold the main thread up
    private var reading = Reading()

    /** Whether anybody wants readings now. */
    var isActive = false
        set(value) {
            if (value == field) return
            field = value
            if (value) begin() else end()
        }

    private val battery = object : BroadcastReceiver() {
        override fun onReceive(context: Context, intent: Intent) {
            update(withBattery(reading, intent))
        }
    }

    // Kept as Any: the listener's class is missing before Android 10.
    private val thermal: Any? = if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) null else
        PowerManager.OnThermalStatusChangedListener { status -> update(reading.copy(thermalStatus = status)) }

    private val tick = object : Runnable {
        override fun run() {
            update(reading.copy(memory = memory()))
            handler.postDelayed(this, MEMORY_MILLISECONDS)
        }
    }

    /** What the phone tells at this moment. */
    fun now(): Reading {
        val battery = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
        val status = if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) null else power.currentThermalStatus
        return withBattery(Reading(thermalStatus = status, memory = memory()), battery)
    }

    private fun begin() {
        reading = now()
        // A system broadcast needs no flag of export.
        context.registerReceiver(battery, IntentFilter(Intent.ACTION_BATTERY_CHANGED), null, handler)
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
            val listener = thermal as PowerManager.OnThermalStatusChangedListener
            power.addThermalStatusListener({ task -> handler.post(task) }, listener)
        }
        handler.post(tick)
    }

    private fun end() {
        context.unregisterReceiver(battery)
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
            power.removeThermalStatusListener(thermal as PowerManager.OnThermalStatusChangedListener)
        }
        handler.removeCallbacks(tick)
    }

    private fun update(next: Reading) {
        reading = next
        take(next)
    }

    private fun memory() = memory.now()?.resident

    private companion object {
        const val MEMORY_MILLISECONDS = 3_000L
        const val TENTHS = 10.0

        fun withBattery(reading: Reading, intent: Intent?): Reading {
            if (intent == null) return reading
            fun extra(name: String) = intent.getIntExtra(name, Int.MIN_VALUE).takeIf { it != Int.MIN_VALUE }
            val level = extra(BatteryManager.EXTRA_LEVEL)
            val scale = extra(BatteryManager.EXTRA_SCALE)
            return reading.copy(
                temperature = extra(BatteryManager.EXTRA_TEMPERATURE)?.let { it / TENTHS },
                battery = if (level != null && scale != null && scale > 0) 100 * level / scale else null,
                charging = (extra(BatteryManager.EXTRA_PLUGGED) ?: 0) != 0,
            )
        }
    }
}
