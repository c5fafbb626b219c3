package edge.sdk.app

import android.os.Build
import android.os.Debug
import android.os.Process
import edge.sdk.measure.Device

/** This phone, for a device record. */
class AndroidDevice(private val readings: PhoneReadings) : Device {
    override val name =
        if (Build.MODEL.startsWith(Build.MANUFACTURER, ignoreCase = true)) Build.MODEL else "${Build.MANUFACTURER} ${Build.MODEL}"
    override val system = "Android ${Build.VERSION.RELEASE} (API ${Build.VERSION.SDK_INT})"
    override val cpu = "${Runtime.getRuntime().availableProcessors()} x ${Build.SUPPORTED_ABIS.first()}"

    override fun cpuSeconds() = Process.getElapsedCpuTime() / 1e3

    override fun pss() = Debug.getPss() * 1024 / 1e6

    override fun nativeHeap() = Debug.getNativeHeapAllocatedSize() / 1e6

    override fun temperature() = readings.now().temperature

    override fun battery() = readings.now().battery?.toDouble()
}
