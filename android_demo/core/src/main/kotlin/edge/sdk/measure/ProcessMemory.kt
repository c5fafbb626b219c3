package edge.sdk.measure

import java.io.File
import java.io.IOException

/** Memory of this process, in MB of 10^6 bytes. */
data class Memory(val resident: Double, val anonymous: Double, val file: Double) {
    /** The larger of each. */
    fun max(other: Memory) =
        Memory(maxOf(resident, other.resident), maxOf(anonymous, other.anonymous), maxOf(file, other.file))
}

/**
 * What Linux and Android tell about this process's memory, and its highest so far.
 *
 * The peak of resident memory is the kernel's (VmHWM), counted again from [reset] on where the kernel allows that, else since
 * the process began. Peaks of its parts, anonymous and mapped files, are the highest of samples.
 */
class ProcessMemory(private val status: File = File("/proc/self/status"), private val clear: File = File("/proc/self/clear_refs")) {
    private var highest: Memory? = null

    /** Whether the kernel counts peaks again from each [reset] on. */
    var resets = false
        private set

    /** Memory now; null if the system does not tell. */
    fun now(): Memory? {
        val lines = lines()
        return Memory(lines["VmRSS"] ?: return null, lines["RssAnon"] ?: return null, lines["RssFile"] ?: return null)
    }

    /** Begins a phase. */
    @Synchronized
    fun reset() {
        resets = try {
            clear.writeText("5")
            true
        } catch (_: IOException) {
            false
        }
        highest = now()
    }

    /** Looks once; called often. */
    @Synchronized
    fun sample() {
        val now = now() ?: return
        highest = highest?.max(now) ?: now
    }

    /** The peaks since [reset]; null if the system does not tell. */
    @Synchronized
    fun peak(): Memory? {
        sample()
        val kernel = lines()["VmHWM"]
        return highest?.let { it.copy(resident = kernel ?: it.resident) }
    }

    private fun lines(): Map<String, Double> = try {
        status.readLines().mapNotNull { line -> LINE.matchEntire(line)?.destructured }
            .associate { (name, kilobytes) -> name to kilobytes.toLong() * 1024 / 1e6 }
    } catch (_: IOException) {
        emptyMap()
    }

    private companion object {
        val LINE = Regex("""(\w+):\s+(\d+) kB""")
    }
}
