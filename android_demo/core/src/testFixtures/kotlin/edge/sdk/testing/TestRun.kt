package edge.sdk.testing

import java.io.File
import kotlin.system.exitProcess
import org.junit.runner.Description
import org.junit.runner.JUnitCore
import org.junit.runner.notification.Failure
import org.junit.runner.notification.RunListener

/**
 * Runs test classes where there is no Gradle: `TestRun CLASS... --counts FILE`. The file gets the numbers of tests, of
 * golden cases and of failures; a test that was skipped is one line, and not counted.
 */
object TestRun {
    @JvmStatic
    fun main(arguments: Array<String>) {
        val (classes, counts) = arguments.toList().let { it.dropLast(2) to File(it.last()) }
        val skipped = mutableSetOf<Description>()
        val listener = object : RunListener() {
            override fun testFailure(failure: Failure) =
                println("FAILED ${failure.description}: ${failure.trimmedTrace}")

            override fun testAssumptionFailure(failure: Failure) {
                skipped += failure.description
                println("left out: ${failure.description}: ${failure.message}")
            }
        }
        val core = JUnitCore().apply { addListener(listener) }
        val result = core.run(*classes.map(Class<*>::forName).toTypedArray())
        counts.writeText("${result.runCount - skipped.size} ${GoldenCases.count} ${result.failureCount}\n")
        exitProcess(if (result.wasSuccessful()) 0 else 1) // ends threads that a test has left
    }
}
