package edge.sdk.presenter

import edge.sdk.EdgeSdkException
import edge.sdk.photos.Photo
import java.io.ByteArrayInputStream
import java.io.File
import java.io.InputStream
import java.nio.file.Files
import kotlin.test.AfterTest

/** The process ends here: nothing of the app may catch it. */
class Killed : Error("the process is killed")

/**
 * A phone with the app on it. [restart] is what Android does after it has ended the process: everything is made anew from
 * the files. All work is done at once, on the caller's thread.
 */
class Phone : AutoCloseable {
    val folder: File = Files.createTempDirectory("phone").toFile()
    val bundles = File(folder, "bundles")
    val session = File(folder, "session")
    val engine = SmallEngine()
    val records = File(folder, "records")
    val pushed = mutableListOf<Source>()
    var measurer = Measurer { bundle, steps, threads, onStep ->
        if (onStep(1)) mapOf("bundle" to bundle.name, "steps" to steps, "threads" to threads) else null
    }
    val log = mutableListOf<String>()
    lateinit var presenter: Presenter
    val state get() = presenter.state

    init {
        addBundle("small")
        restart()
    }

    fun restart() {
        val decoder = PhotoDecoder { file, side ->
            val value = file.readText().toIntOrNull() ?: throw UnreadablePhoto("no number")
            Photo(side, side, ByteArray(3 * side * side) { value.toByte() })
        }
        val inline = java.util.concurrent.Executor { it.run() }
        presenter = Presenter(
            Shelf(bundles, {}), SessionStore(session), engine, decoder, measurer, { pushed }, records, inline, inline, { 7L },
            { log += it },
        )
    }

    /** A bundle as far as the app itself reads one. */
    fun addBundle(name: String, words: String = """"mug": [[1]], "person": [[2]]"""): File {
        val bundle = File(bundles, name).apply { mkdirs() }
        File(bundle, "weights.bin").writeText("weights")
        File(bundle, "manifest.json").writeText(
            """{"schema_version": 3, "format": "onnx", "model": {"name": "tiny"}, "weights": "int8", "resolution": 8,
            "initializers": {$words}, "initializer_token": "mug", "files": {"weights.bin": {"bytes": 7}}}""",
        )
        return bundle
    }

    fun choose(vararg photos: String = arrayOf("1", "2", "3")) {
        presenter.appear()
        presenter.choosing.addPhotos(photos.map { { ByteArrayInputStream(it.toByteArray()) as InputStream } })
        presenter.choosing.setWord("cup")
    }

    fun tokenText() = File(session, "learned_embeds.safetensors").readText()

    override fun close() {
        folder.deleteRecursively()
    }
}

/** Learns a number in a few steps; its state is a text. It can be asked to end the process, or to fail, at any point. */
class SmallEngine : Engine {
    /** Called at each point by name: "open", "checkpoint 1", "step 1", "token", "draw null", ... */
    var at: (String) -> Unit = {}
    var opened = 0

    /** Models that are not closed. */
    var open = 0

    override fun open(folder: File): Model {
        at("open")
        opened++
        open++
        return Small()
    }

    private inner class Small : Model {
        private var step = 0
        private var value = 0L
        private var word = ""
        override val resolution = 8

        override fun prompt(word: String) = "a photo of $word"

        override fun learn(task: Task): Sequence<Progress> {
            word = task.word
            if (word == "<bad>") throw EdgeSdkException("<bad> is a word of the vocabulary; give another")
            return sequence { // as in the library, a state is looked at by the first step
                task.resume?.let { bytes ->
                    val parts = String(bytes).split(' ').mapNotNull(String::toLongOrNull)
                    if (parts.size != 2) throw EdgeSdkException("the state is of another model")
                    step = parts[0].toInt()
                    value = parts[1]
                }
                at("begin")
                while (step < STEPS) {
                    val photo = task.photos[step % task.photos.size].rgb[0]
                    val next = 31 * value + photo + task.seed + step
                    at("before checkpoint ${step + 1}")
                    value = next
                    step++
                    task.checkpoint("$step $value".toByteArray())
                    at("after checkpoint $step")
                    yield(Progress(step, STEPS, 1.0 / step, (STEPS - step).toDouble()))
                    at("after step $step")
                }
            }
        }

        override fun token(): ByteArray {
            at("token $step")
            return "$word $value".toByteArray()
        }

        override fun heldOutLoss() = HeldOut(0.5, if (step == STEPS) 0.1 else null)

        override fun draw(prompt: String, token: ByteArray?, session: Session): Photo {
            at("draw ${token?.let { "after" } ?: "before"}")
            return Photo(1, 1, byteArrayOf(prompt.length.toByte(), token?.size?.toByte() ?: 0, session.seed.toByte()))
        }

        override fun close() {
            open--
        }
    }

    companion object {
        const val STEPS = 5
    }
}

/** Tests of a presenter, each on a phone of its own. */
abstract class OnPhone {
    protected val phone = Phone()
    protected val presenter get() = phone.presenter
    protected val state get() = phone.state

    @AfterTest
    fun clean() = phone.close()

    /** Runs an action when the engine comes to a point for the first time. */
    protected fun at(point: String, action: () -> Unit) {
        var isDone = false
        phone.engine.at = {
            if (it == point && !isDone) {
                isDone = true
                action()
            }
        }
    }

    protected fun learnedToken(): String {
        phone.choose()
        presenter.choosing.start()
        return phone.tokenText().also {
            presenter.result.startAgain()
            presenter.choosing.setWord("")
            state.photos.indices.forEach { _ -> presenter.choosing.removePhoto(0) }
        }
    }
}
