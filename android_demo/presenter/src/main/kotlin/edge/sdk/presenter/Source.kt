package edge.sdk.presenter

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.util.zip.ZipException
import java.util.zip.ZipInputStream

/** Where a bundle comes from: a folder or an archive that the person chose. Its files are read once, in order. */
interface Source {
    /** As the person knows it, such as "bundle-int8" or "bundle-int8.zip". */
    val name: String

    /**
     * Hands every file to [take]: its path with "/" below the source, and its bytes, to be read before [take] returns.
     *
     * @throws IOException the source cannot be read to its end
     */
    fun forEach(take: (path: String, bytes: InputStream) -> Unit)
}

/** A folder of the file system. */
class FolderSource(private val folder: File) : Source {
    override val name: String get() = folder.name

    override fun forEach(take: (String, InputStream) -> Unit) {
        if (!folder.isDirectory) throw IOException("$folder is no folder")
        for (file in folder.walk().onFail { _, error -> throw error }.filter(File::isFile)) {
            file.inputStream().use { take(file.relativeTo(folder).invariantSeparatorsPath, it) }
        }
    }
}

/** A zip archive, read as a stream: it may come from anywhere. */
class ZipSource(override val name: String, private val open: () -> InputStream) : Source {
    override fun forEach(take: (String, InputStream) -> Unit) {
        var isEmpty = true
        ZipInputStream(open().buffered()).use { zip ->
            try {
                generateSequence { zip.nextEntry }.forEach { entry ->
                    isEmpty = false
                    if (!entry.isDirectory) take(entry.name, zip)
                }
            } catch (error: IllegalArgumentException) { // names that are not UTF-8
                throw ZipException("a name in the archive is unreadable").initCause(error)
            }
        }
        if (isEmpty) throw ZipException("this is no zip archive, or an empty one")
    }
}
