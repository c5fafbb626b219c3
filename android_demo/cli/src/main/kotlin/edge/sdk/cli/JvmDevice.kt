package edge.sdk.cli

import com.sun.management.OperatingSystemMXBean
import edge.sdk.measure.Device
import java.io.File
import java.io.IOException
import java.lang.management.ManagementFactory

/** A computer with Linux, as far as it tells about itself. */
internal object JvmDevice : Device {
    private val model = lines("/proc/cpuinfo").firstOrNull { it.startsWith("model name") }?.substringAfter(':')?.trim()
    private val chip = model?.replace(Regex("\\(.*?\\)| \\d+-Core.*| Processor.*| CPU.*"), "")
    override val name = "JVM on ${chip ?: System.getProperty("os.arch")}"
    override val system: String =
        lines("/etc/os-release").firstOrNull { it.startsWith("PRETTY_NAME=") }?.substringAfter('=')?.trim('"')
            ?: "${System.getProperty("os.name")} ${System.getProperty("os.version")}"
    override val cpu = "${Runtime.getRuntime().availableProcessors()} x ${System.getProperty("os.arch")}"

    override fun cpuSeconds(): Double? =
        (ManagementFactory.getOperatingSystemMXBean() as? OperatingSystemMXBean)?.processCpuTime
            ?.takeIf { it >= 0 }?.let { it / 1e9 }

    override fun pss(): Double? = lines("/proc/self/smaps_rollup").firstOrNull { it.startsWith("Pss:") }
        ?.filter { it.isDigit() }?.toLongOrNull()?.let { it * 1024 / 1e6 }

    private fun lines(path: String): List<String> = try {
        File(path).readLines()
    } catch (_: IOException) {
        emptyList()
    }
}
