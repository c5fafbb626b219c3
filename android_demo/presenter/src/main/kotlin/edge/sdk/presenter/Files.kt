package edge.sdk.presenter

import java.io.File
import java.io.FileOutputStream
import java.io.OutputStream
import java.nio.file.Files
import java.nio.file.StandardCopyOption.ATOMIC_MOVE
import java.nio.file.StandardCopyOption.REPLACE_EXISTING

/** Begins the names of what is not whole yet. */
internal const val PARTIAL = ".partial-"

/**
 * Writes a file whole or not at all, even if the process is killed or the power fails meanwhile.
 *
 * @throws java.io.IOException it cannot be written; a file of that name is then as it was
 */
internal fun writeWhole(file: File, bytes: ByteArray) = writeWhole(file) { it.write(bytes) }

/** The same for what is not in memory. */
internal fun writeWhole(file: File, write: (OutputStream) -> Unit) {
    file.absoluteFile.parentFile?.mkdirs()
    val partial = File(file.absoluteFile.parentFile, PARTIAL + file.name)
    try {
        FileOutputStream(partial).use {
            write(it)
            it.fd.sync()
        }
        Files.move(partial.toPath(), file.toPath(), ATOMIC_MOVE, REPLACE_EXISTING)
    } finally {
        partial.delete()
    }
}
