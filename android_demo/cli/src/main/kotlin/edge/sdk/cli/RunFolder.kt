package edge.sdk.cli

import edge.sdk.EdgeSdkException
import edge.sdk.oneLine
import edge.sdk.runtime.readBytes
import edge.sdk.zo.CheckpointException
import edge.sdk.zo.readState
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.nio.channels.FileLock
import java.nio.file.FileSystemException
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption.ATOMIC_MOVE
import java.nio.file.StandardOpenOption.CREATE
import java.nio.file.StandardOpenOption.WRITE
import java.nio.file.attribute.PosixFilePermissions
import java.util.UUID

/**
 * The folder of a run: one process at a time, every file whole or not at all and for its owner alone, two checkpoints.
 *
 * @throws EdgeSdkException it cannot be written, or another run is at work in it
 */
internal class RunFolder(val folder: File) : AutoCloseable {
    private val channel: FileChannel
    private val lock: FileLock

    init {
        channel = writing(folder) {
            makeFolder(folder.toPath())
            FileChannel.open(folder.toPath().resolve(".lock"), CREATE, WRITE).also {
                Files.setPosixFilePermissions(folder.toPath().resolve(".lock"), PRIVATE_FILE)
            }
        }
        lock = writing(folder) { channel.tryLock() } ?: run {
            channel.close()
            throw EdgeSdkException("another run is at work in $folder; wait for it or use another --output_dir")
        }
        folder.listFiles().orEmpty().filter { LEFTOVER.matches(it.name) }.forEach { it.deleteRecursively() }
    }

    /** Refuses a folder that holds results. */
    fun requireFree() {
        val taken = RESULTS.filter { folder.resolve(it).exists() } + checkpoints().map { it.name }
        if (taken.isNotEmpty())
            throw EdgeSdkException(
                "$folder already holds ${taken[0]}; use another --output_dir, or --resume_from_checkpoint latest",
            )
    }

    fun write(name: String, bytes: ByteArray) = writing(folder.resolve(name)) {
        staging { scratch ->
            writePrivate(scratch.resolve(name), bytes)
            Files.move(scratch.resolve(name), folder.toPath().resolve(name), ATOMIC_MOVE)
        }
    }

    /** Writes `checkpoint-<step>/state.safetensors` and removes all but the two newest. */
    fun writeCheckpoint(bytes: ByteArray) = writing(folder) {
        val name = "checkpoint-${readState(bytes).step}"
        val target = folder.toPath().resolve(name)
        staging { scratch ->
            val new = makeFolder(scratch.resolve(name))
            writePrivate(new.resolve(STATE), bytes)
            if (Files.isDirectory(target)) Files.move(new.resolve(STATE), target.resolve(STATE), ATOMIC_MOVE)
            else Files.move(new, target, ATOMIC_MOVE)
        }
        checkpoints().drop(KEPT).forEach { it.deleteRecursively() }
    }

    /**
     * The bytes of a checkpoint to go on from.
     *
     * @param where "latest", or a folder of this run
     * @return null where a run ended before its first checkpoint
     * @throws EdgeSdkException there is none that can be read
     */
    fun checkpoint(where: String, notify: (String) -> Unit): ByteArray? {
        if (where != "latest") return bytesOf(File(where))
        var problem: String? = null
        for (each in checkpoints()) {
            try {
                val bytes = bytesOf(each)
                problem?.let { notify("$it; going on from ${each.name}") }
                return bytes
            } catch (error: EdgeSdkException) {
                problem = problem ?: error.message
            }
        }
        problem?.let { throw EdgeSdkException("$it; start a new run in another --output_dir") }
        return null
    }

    private fun bytesOf(checkpoint: File): ByteArray {
        val file = checkpoint.resolve(STATE)
        val bytes = try {
            readBytes(file, MOST_BYTES)
        } catch (error: IOException) {
            throw CheckpointException("$file cannot be read: ${oneLine(error)}", error)
        }
        readState(bytes, path = file.path)
        return bytes
    }

    /** Folders with a state, the newest first. */
    private fun checkpoints(): List<File> = folder.listFiles().orEmpty()
        .filter { NUMBERED.matches(it.name) && it.resolve(STATE).exists() }
        .sortedByDescending { it.name.substringAfter('-').toLong() }

    private fun staging(write: (Path) -> Unit) {
        val scratch = folder.toPath().resolve(temporaryName())
        makeFolder(scratch)
        try {
            write(scratch)
        } finally {
            scratch.toFile().deleteRecursively()
        }
    }

    override fun close() {
        lock.release()
        channel.close()
    }

    companion object {
        private val RESULTS = listOf("run.json", "learned_embeds.safetensors")
        private const val STATE = "state.safetensors"
        private const val KEPT = 2
        private const val MOST_BYTES = 64 shl 20 // of a state
        private val NUMBERED = Regex("checkpoint-[0-9]{1,18}")
        private val LEFTOVER = Regex("\\.edge-sdk-[0-9a-f]{32}\\.tmp")
        private val PRIVATE_FILE = PosixFilePermissions.fromString("rw-------")
        private val PRIVATE_FOLDER = PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"))

        /** Refuses to resume where no run has begun; nothing is written. */
        fun requireBegun(folder: File) {
            val entries = folder.listFiles().orEmpty()
            val traces = entries.filter { it.name == ".lock" || NUMBERED.matches(it.name) }
            val isWhole = entries.any { it.name in RESULTS }
            if (traces.any { it.resolve(STATE).exists() } || (traces.isNotEmpty() && !isWhole)) return
            throw EdgeSdkException(
                "$folder holds no checkpoint-<step> folder to resume from; start a run without resuming",
            )
        }

        private fun temporaryName() = ".edge-sdk-${UUID.randomUUID().toString().replace("-", "")}.tmp"

        /** Turns a failing disk into a message about [what]; everything written before stays as it was. */
        fun <T> writing(what: File, write: () -> T): T = try {
            write()
        } catch (error: IOException) {
            val why = (error as? FileSystemException)?.reason ?: oneLine(error)
            val advice = if ("space" in why.lowercase()) "free some space and resume" else "choose another place"
            throw EdgeSdkException("$what cannot be written: $why; $advice", error)
        }

        /** Writes a file whole or not at all. */
        fun writeWhole(file: File, bytes: ByteArray) = writing(file) {
            val target = file.absoluteFile.toPath()
            val scratch = target.resolveSibling(temporaryName())
            try {
                Files.write(scratch, bytes)
                Files.move(scratch, target, ATOMIC_MOVE)
            } finally {
                Files.deleteIfExists(scratch)
            }
            Unit
        }

        private fun makeFolder(folder: Path): Path = Files.createDirectories(folder, PRIVATE_FOLDER)

        private fun writePrivate(file: Path, bytes: ByteArray) {
            Files.createFile(file, PosixFilePermissions.asFileAttribute(PRIVATE_FILE))
            FileChannel.open(file, WRITE).use { channel ->
                val buffer = ByteBuffer.wrap(bytes)
                while (buffer.hasRemaining()) channel.write(buffer)
                channel.force(true)
            }
        }
    }
}
