package edge.sdk.presenter

import edge.sdk.EdgeSdkException
import edge.sdk.runtime.Json
import edge.sdk.runtime.JsonObject
import java.io.File
import java.io.IOException
import java.security.MessageDigest

/**
 * What the first screen tells about a bundle.
 *
 * @property name of its folder
 * @property megabytes of all its files, in 10^6 bytes
 * @property initializers words to start from
 * @property initializer the one to start from if the person names none
 * @property digest of its manifest: another digest is another model
 */
data class BundleInfo(
    val name: String,
    val model: String,
    val weights: String,
    val megabytes: Double,
    val resolution: Int,
    val initializers: List<String>,
    val initializer: String?,
    val digest: String,
)

/**
 * The bundles in the app's own folder.
 *
 * A bundle is copied under a name that no list shows, checked as a whole, and only then renamed. A copy that was cut short
 * by the person, by a full phone or by the end of the process leaves nothing that could be taken for a bundle.
 *
 * @param folder holds one folder for each bundle
 * @param check throws [EdgeSdkException] for a folder that the library refuses
 * @param free bytes that the app may still write
 */
class Shelf(
    private val folder: File,
    private val check: (File) -> Unit,
    private val free: () -> Long = { folder.usableSpace },
) {
    init {
        folder.mkdirs()
        folder.listFiles { file -> file.name.startsWith(PARTIAL) }?.forEach { it.deleteRecursively() }
    }

    /** The bundles, by name; folders without a readable manifest are left out. */
    fun list(): List<BundleInfo> =
        folder.listFiles { file -> file.isDirectory && !file.name.startsWith(".") }.orEmpty().sortedBy { it.name }
            .mapNotNull { runCatching { describe(it) }.getOrNull() }

    /** The folder of a bundle. */
    fun folderOf(name: String): File = File(folder, name)

    /** Removes a bundle. */
    fun remove(name: String) {
        val target = folderOf(name)
        val going = File(folder, PARTIAL + name) // disappears at once, though deleting takes its time
        if (target.renameTo(going)) going.deleteRecursively()
    }

    /**
     * Copies a bundle in.
     *
     * @param progress gets the bytes copied so far
     * @param isCancelled is asked all the time; true ends with null and leaves nothing
     * @throws Problem the sentence to show
     */
    fun take(source: Source, progress: (Long) -> Unit = {}, isCancelled: () -> Boolean = { false }): BundleInfo? {
        val name = source.name.removeSuffix(".zip")
        val scratch = File(folder, PARTIAL + System.nanoTime())
        try {
            if (!copy(source, scratch, progress, isCancelled)) return null
            val root = findRoot(scratch) ?: throw Problem(Message(Key.BUNDLE_WITHOUT_MANIFEST, name))
            examine(root, name)
            val target = unusedName(name)
            if (!root.renameTo(target)) throw Problem(Message(Key.SAVING_FAILED))
            return describe(target)
        } finally {
            scratch.deleteRecursively()
        }
    }

    /**
     * Checks every file of a bundle, as before each run.
     *
     * @throws Problem the sentence to show
     */
    fun examine(bundle: File, name: String) {
        val manifest = try {
            Json.readObject(File(bundle, MANIFEST), "export the bundle again")
        } catch (error: EdgeSdkException) {
            throw Problem(Message(Key.BUNDLE_REFUSED, name).because(error.message), error)
        }
        if (manifest["format"] == "coreml") throw Problem(Message(Key.BUNDLE_OTHER_RUNTIME, name))
        if (manifest["schema_version"] != SCHEMA_VERSION) throw Problem(Message(Key.BUNDLE_OTHER_VERSION, name))
        findCut(bundle, manifest)?.let { throw Problem(Message(Key.BUNDLE_CUT, name, it)) }
        try {
            check(bundle)
        } catch (error: EdgeSdkException) {
            throw Problem(Message(Key.BUNDLE_REFUSED, name).because(error.message), error)
        }
    }

    private fun copy(source: Source, into: File, progress: (Long) -> Unit, isCancelled: () -> Boolean): Boolean {
        var copied = 0L
        val buffer = ByteArray(1 shl 20)
        try {
            source.forEach { path, bytes ->
                if (isCancelled()) return@forEach
                val file = File(into, path)
                // A name in an archive may point anywhere ("../", "/"): nothing is written outside.
                if (!file.canonicalPath.startsWith(into.canonicalPath + File.separator)) {
                    throw Problem(Message(Key.BUNDLE_REFUSED, source.name).because("$path leads out of the archive"))
                }
                writing { file.parentFile?.mkdirs() }
                writing { file.outputStream() }.use { out ->
                    while (!isCancelled()) {
                        val count = bytes.read(buffer)
                        if (count < 0) break
                        if (free() < RESERVE + count) throw noSpace()
                        writing { out.write(buffer, 0, count) }
                        copied += count
                        progress(copied)
                    }
                    writing { out.fd.sync() }
                }
            }
        } catch (error: IOException) {
            throw Problem(Message(Key.SOURCE_UNREADABLE, source.name).because(error.message), error)
        }
        return !isCancelled()
    }

    /** Runs what writes: that fails for want of space, where reading fails for want of the source. */
    private inline fun <T> writing(action: () -> T): T = try {
        action()
    } catch (error: IOException) {
        throw noSpace(error)
    }

    private fun noSpace(cause: Throwable? = null) =
        Problem(Message(Key.NO_SPACE, maxOf(0, free() - RESERVE) / 1_000_000).because(cause?.message), cause)

    /** The folder of the manifest: the copy itself, or the one folder that was packed. */
    private fun findRoot(copy: File): File? =
        (listOf(copy) + copy.listFiles(File::isDirectory).orEmpty()).firstOrNull { File(it, MANIFEST).isFile }

    /** The first file of the manifest that is missing or shorter than it must be. */
    private fun findCut(bundle: File, manifest: JsonObject): String? = (manifest["files"] as? Map<*, *>)?.entries
        ?.firstOrNull { (path, entry) -> File(bundle, "$path").length() < ((entry as? Map<*, *>)?.get("bytes") as? Long ?: 0) }
        ?.key?.toString()

    private fun unusedName(name: String): File {
        val plain = name.map { if (it.isLetterOrDigit() || it in "-_. ()") it else '-' }.joinToString("").trim(' ', '.')
        val base = plain.ifEmpty { "bundle" }.take(80)
        return (sequenceOf(base) + generateSequence(2) { it + 1 }.map { "$base-$it" }).map { File(folder, it) }.first { !it.exists() }
    }

    private fun describe(bundle: File): BundleInfo {
        val file = File(bundle, MANIFEST)
        val manifest = Json.readObject(file, "export the bundle again")
        val files = manifest["files"] as Map<*, *>
        return BundleInfo(
            name = bundle.name,
            model = (manifest["model"] as Map<*, *>)["name"] as String,
            weights = manifest["weights"] as String,
            megabytes = files.values.sumOf { (it as Map<*, *>)["bytes"] as Long } / 1e6,
            resolution = (manifest["resolution"] as Long).toInt(),
            initializers = (manifest["initializers"] as Map<*, *>).keys.map { it as String }.sorted(),
            initializer = manifest["initializer_token"] as String?,
            digest = MessageDigest.getInstance("SHA-256").digest(file.readBytes()).joinToString("") { "%02x".format(it) },
        )
    }

    companion object {
        const val MANIFEST = "manifest.json"
        private const val SCHEMA_VERSION = 3L
        private const val RESERVE = 50_000_000L // bytes left for the phone, and for what a run writes
    }
}

/** Something the person has to know; the message is what the screen shows. */
class Problem(val said: Message, cause: Throwable? = null) : Exception("${said.key} ${said.arguments}: ${said.detail}", cause)
