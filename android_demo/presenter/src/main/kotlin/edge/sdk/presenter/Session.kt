package edge.sdk.presenter

import edge.sdk.photos.Photo
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.io.StringReader
import java.io.StringWriter
import java.util.Properties

/** Where the app is. */
enum class Stage { CHOOSING, LEARNING, RESULT }

/**
 * All that must outlive the process beside the files of [SessionStore].
 *
 * @property bundle name of the chosen bundle, null if none is
 * @property digest of the bundle that a run has begun with
 * @property photos names of files, in the order of choosing
 * @property isPausedByPerson learning does not go on by itself
 * @property attempts beginnings since the last step: a phone that ends the process each time would begin for ever
 * @property seed of the run, and of the pictures
 */
data class Session(
    val stage: Stage = Stage.CHOOSING,
    val bundle: String? = null,
    val digest: String? = null,
    val photos: List<String> = emptyList(),
    val word: String = "",
    val initializer: String = "",
    val seed: Long = 0,
    val step: Int = 0,
    val steps: Int = 0,
    val lossBefore: Double? = null,
    val lossAfter: Double? = null,
    val isPausedByPerson: Boolean = false,
    val attempts: Int = 0,
    val prompt: String = "",
)

/**
 * The session on disk. Every file is written whole or not at all, so that the process may end at any instruction.
 *
 * @param folder of the app's own, not in any backup
 */
class SessionStore(private val folder: File) {
    private val file = File(folder, "session.properties")
    private val photos = File(folder, "photos")
    private val state = File(folder, "state.safetensors")

    /** The learned token. */
    val token = File(folder, "learned_embeds.safetensors")

    init {
        folder.mkdirs()
        folder.walk().filter { it.name.startsWith(PARTIAL) }.toList().forEach { it.delete() }
    }

    /** What was saved last; a new session if there is nothing, or nothing readable. */
    fun load(): Session = try {
        val saved = Properties().apply { load(StringReader(file.readText())) }
        fun text(name: String) = saved.getProperty(name, "")
        val session = Session(
            stage = Stage.valueOf(text("stage")),
            bundle = text("bundle").ifEmpty { null },
            digest = text("digest").ifEmpty { null },
            photos = text("photos").split('/').filter { it.isNotEmpty() && photoFile(it).isFile },
            word = text("word"),
            initializer = text("initializer"),
            seed = text("seed").toLong(),
            step = text("step").toInt(),
            steps = text("steps").toInt(),
            lossBefore = text("lossBefore").toDoubleOrNull(),
            lossAfter = text("lossAfter").toDoubleOrNull(),
            isPausedByPerson = text("isPausedByPerson").toBoolean(),
            attempts = text("attempts").toInt(),
            prompt = text("prompt"),
        )
        // A result without its token is none; the photos are there to begin again.
        if (session.stage == Stage.RESULT && !token.isFile) session.copy(stage = Stage.CHOOSING) else session
    } catch (_: IOException) {
        Session()
    } catch (_: IllegalArgumentException) {
        Session()
    }

    /** @throws IOException it cannot be written; what was saved before is still there */
    fun save(session: Session) {
        val saved = Properties()
        with(session) {
            saved["stage"] = stage.name
            saved["bundle"] = bundle.orEmpty()
            saved["digest"] = digest.orEmpty()
            saved["photos"] = photos.joinToString("/")
            saved["word"] = word
            saved["initializer"] = initializer
            saved["seed"] = "$seed"
            saved["step"] = "$step"
            saved["steps"] = "$steps"
            saved["lossBefore"] = "${lossBefore ?: ""}"
            saved["lossAfter"] = "${lossAfter ?: ""}"
            saved["isPausedByPerson"] = "$isPausedByPerson"
            saved["attempts"] = "$attempts"
            saved["prompt"] = prompt
        }
        writeWhole(file, StringWriter().also { saved.store(it, null) }.toString().toByteArray())
    }

    /** Bytes that may still be written. */
    fun free(): Long = folder.usableSpace

    fun photoFile(name: String) = File(photos, name)

    /** Keeps a photo as it is, byte for byte; gives its name. */
    fun addPhoto(bytes: InputStream): String {
        val name = "photo-${System.nanoTime()}"
        writeWhole(photoFile(name)) { bytes.copyTo(it) }
        return name
    }

    /** The whole state of a run after its last step; null before the first. */
    fun checkpoint(): ByteArray? = if (state.isFile) state.readBytes() else null

    fun saveCheckpoint(bytes: ByteArray) = writeWhole(state, bytes)

    fun dropCheckpoint() {
        state.delete()
    }

    fun saveToken(bytes: ByteArray) = writeWhole(token, bytes)

    /** A drawn picture, null if there is none. */
    fun picture(kind: PictureKind): Photo? =
        pictureFile(kind).takeIf(File::isFile)?.let { photoOfPpm(it.readBytes()) }

    fun savePicture(kind: PictureKind, picture: Photo) = writeWhole(pictureFile(kind), picture.toPpm())

    /** Deletes what a run has made; photos stay. */
    fun dropResult() {
        (PictureKind.entries.map(::pictureFile) + token + state).forEach(File::delete)
    }

    /** Deletes photos that no session names. */
    fun keepPhotos(names: List<String>) {
        photos.listFiles()?.filter { it.name !in names }?.forEach(File::delete)
    }

    private fun pictureFile(kind: PictureKind) = File(folder, kind.name.lowercase() + ".ppm")
}

/** The pictures of the last screen. */
enum class PictureKind { BEFORE, AFTER, OWN }
