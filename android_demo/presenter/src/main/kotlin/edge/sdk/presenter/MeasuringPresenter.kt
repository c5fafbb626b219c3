package edge.sdk.presenter

import edge.sdk.runtime.Json
import edge.sdk.runtime.JsonObject
import java.io.File
import java.time.LocalDateTime
import java.time.format.DateTimeFormatter

/** Runs and watches one whole run; the platform's part, see [edge.sdk.measure.Measurement]. */
fun interface Measurer {
    /**
     * @param steps null: the preset's
     * @param threads null: the app's own number
     * @param onStep is called with the number of steps so far; false ends the run
     * @return the record, null if the run was ended
     * @throws edge.sdk.EdgeSdkException the run fails
     */
    fun measure(bundle: File, steps: Int?, threads: Int?, onStep: (Int) -> Boolean): JsonObject?
}

/** The screen for engineers, and the same without a screen. */
class MeasuringPresenter internal constructor(
    private val board: Board,
    private val shelf: Shelf,
    private val pushed: () -> List<Source>,
    private val measurer: Measurer,
    private val records: File,
) {
    fun open() {
        if (board.state.screen == Screen.CHOOSING && board.state.work == null) board.show { copy(screen = Screen.MEASURING) }
    }

    fun close() {
        if (board.state.work == null) board.show { copy(screen = Screen.CHOOSING, message = null) }
    }

    /**
     * Measures, and writes a record.
     *
     * @param bundle its name; null: the chosen one. One that a computer has put beside the app is copied in first
     * @param report gets one line: the record's path, or what is wrong
     */
    fun start(bundle: String? = null, steps: Int? = null, threads: Int? = null, report: (String) -> Unit = {}) {
        val isFree = board.state.work == null && board.state.screen in listOf(Screen.CHOOSING, Screen.MEASURING)
        if (!isFree) return report("the app learns or draws now; nothing is measured")
        board.work(Work.Kind.MEASURING) {
            try {
                val file = write(bundle ?: board.session.bundle, steps, threads)
                report(if (file == null) "measuring was ended; no record is written" else "record: $file")
            } catch (problem: Problem) {
                report("nothing is measured: ${problem.message}")
                throw problem
            }
        }
    }

    private fun write(name: String?, steps: Int?, threads: Int?): File? = describingProblems(Key.MEASURING_FAILED) {
        val folder = folderOf(name)
        shelf.examine(folder, folder.name)
        val record = measurer.measure(folder, steps, threads) { step ->
            board.progress(step.toLong())
            !board.isCancelled
        } ?: return@describingProblems null
        val file = File(records, "device-${LocalDateTime.now().format(STAMP)}.json")
        writeWhole(file, (Json.write(record, indent = 2) + "\n").toByteArray())
        board.main.execute {
            board.show { copy(record = file) }
            board.say(Message(Key.MEASURED, file.name))
        }
        file
    }

    private fun folderOf(name: String?): File {
        val bundles = shelf.list()
        val found = if (name == null) bundles.firstOrNull() else bundles.firstOrNull { it.name == name }
        val source = if (found == null) pushed().firstOrNull { name == null || it.name.removeSuffix(".zip") == name } else null
        val info = found ?: source?.let { shelf.take(it) } ?: throw Problem(Message(Key.BUNDLE_MISSING, name ?: "-"))
        return shelf.folderOf(info.name)
    }

    private companion object {
        val STAMP: DateTimeFormatter = DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss")
    }
}
