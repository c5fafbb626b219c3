package edge.sdk.cli

import edge.sdk.EdgeSdkException
import edge.sdk.oneLine
import java.util.Locale
import kotlin.system.exitProcess

/** A part of the program. */
internal class Command(
    val name: String,
    val about: String,
    val flags: List<Flag>,
    val run: (Arguments, words: List<String>) -> Int,
)

internal const val PROGRAM = "edge-personalize-jvm"
internal const val VERSION = "0.1.0"

/** Exit statuses. */
internal const val DONE = 0
internal const val FAILED = 1 // a check
internal const val REFUSED = 2 // the user's mistake
internal const val CANCELLED = 130

private val COMMANDS = listOf(PERSONALIZE, GENERATE, VERIFY, MEASURE)

/** `edge-personalize-jvm [COMMAND] --FLAG VALUE ...`; without a command it personalizes. */
fun main(words: Array<String>) {
    Locale.setDefault(Locale.ROOT) // numbers as Python spells them, in every country
    val status = try {
        started(words.toList())
    } catch (error: EdgeSdkException) {
        refused(shown(error))
    } catch (_: OutOfMemoryError) {
        refused("Java's memory is too small for these photos; give fewer or smaller ones")
    }
    exitProcess(status)
}

private fun refused(why: String): Int {
    notice("$PROGRAM: $why")
    return REFUSED
}

private fun started(words: List<String>): Int {
    if (words.isEmpty() || words[0] in listOf("--help", "-h", "help")) {
        println("$PROGRAM learns a word from photos, on a bundle of edge-sdk export\n")
        COMMANDS.forEach { println("  %-12s %s".format(it.name, it.about)) }
        println("\n$PROGRAM COMMAND --help lists a command's flags. Example:")
        println("  $PROGRAM personalize --bundle bundle --train_data_dir photos --output_dir run")
        return DONE
    }
    if (words[0] == "--version") {
        println("$PROGRAM $VERSION")
        return DONE
    }
    val named = COMMANDS.firstOrNull { it.name == words[0] }
    if (named == null && !words[0].startsWith("--"))
        throw EdgeSdkException(
            "'${words[0].take(60)}' is no command; give one of ${COMMANDS.joinToString(", ") { it.name }}",
        )
    val command = named ?: PERSONALIZE
    val rest = if (named == null) words else words.drop(1)
    if (rest.any { it == "--help" || it == "-h" }) {
        println("$PROGRAM ${command.name}: ${command.about}\n")
        for (flag in command.flags) {
            val value = if (flag.values > 0) " ${flag.shown}" else ""
            println("  --%-32s %s".format("${flag.name}$value", flag.help))
        }
        return DONE
    }
    return command.run(Arguments.parse(rest, command.flags, command.name), words)
}

/** An error in one line of printable characters. */
internal fun shown(error: Throwable) = printable(oneLine(error, 2000))
