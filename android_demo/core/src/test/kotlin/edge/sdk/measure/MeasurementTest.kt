package edge.sdk.measure

import edge.sdk.runtime.Bundle
import edge.sdk.runtime.Json
import edge.sdk.testing.FormulaGraphs
import edge.sdk.testing.GoldenCases
import java.io.File
import java.nio.file.Files
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertNull
import kotlin.test.assertTrue

class MeasurementTest {
    private val bundle = Bundle.open(GoldenCases.folder.resolve("bundle"))
    private val options = MeasureOptions("test", "client 1", "1.2.3", threads = 2, steps = 3)

    private open class Silent : Device {
        override val name = "a phone"
        override val system = "a system"
        override val cpu = "1 x cpu"
    }

    @Suppress("UNCHECKED_CAST")
    private fun Any?.entry(name: String): Any? = (this as Map<String, Any?>).getValue(name)

    @Test
    fun `a record has the schema's entries, and what a device does not tell is null`() {
        val graphs = FormulaGraphs()
        val record = Json.parse(Json.write(Measurement(bundle, graphs, Silent(), options).run()))
        val result = record.entry("results").entry("int8 kotlin, a phone")
        val case = result.entry("case")
        val run = (result.entry("runs") as List<*>).single()
        val expected = listOf<Any?>("device", "kotlin", "int8", 2L, 3L, 40L)
        assertEquals(expected, listOf("kind", "client", "weights", "threads", "steps", "steps_of_preset").map { case.entry(it) })
        assertEquals(99L, case.entry("forwards"), "three steps of 33 rows")
        assertEquals(listOf("import", "load", "step", "run"), (run.entry("phases") as Map<*, *>).keys.toList())
        assertTrue((run.entry("phases").entry("run").entry("resident") as Double) > 10)
        assertEquals(3, (run.entry("seconds") as List<*>).size)
        for (name in listOf("cpu_seconds", "peak_pss_mb", "native_heap_mb")) assertNull(run.entry(name), name)
        assertNull(run.entry("temperature_c").entry("end"))
        assertTrue((run.entry("loss_final") as Double).isFinite())
        assertEquals(emptyList(), graphs.open)
    }

    @Test
    fun `what a device tells is in the record`() {
        val device = object : Silent() {
            var heat = 30.0

            override fun cpuSeconds() = System.nanoTime() / 1e9

            override fun pss() = 300.0

            override fun nativeHeap() = 200.0

            override fun temperature() = heat++

            override fun battery() = 80.0
        }
        val record = Measurement(bundle, FormulaGraphs(), device, options).run()
        val run = (record.entry("results").entry("int8 kotlin, a phone").entry("runs") as List<*>).single()
        assertEquals(listOf<Any?>(300.0, 200.0), listOf("peak_pss_mb", "native_heap_mb").map { run.entry(it) })
        assertEquals(mapOf("start" to 30.0, "end" to 31.0), run.entry("temperature_c"))
        assertEquals(mapOf("start" to 80.0, "end" to 80.0), run.entry("battery"))
        assertEquals(3, (run.entry("cpu_seconds") as List<*>).size)
    }

    @Test
    fun `a run that is ended gives no record, and closes its graphs`() {
        val graphs = FormulaGraphs()
        assertNull(Measurement(bundle, graphs, Silent(), options).run { it < 2 })
        assertEquals(emptyList(), graphs.open)
    }

    @Test
    fun `peaks are the kernel's where it counts them, and null where nothing is told`() {
        val folder = Files.createTempDirectory("proc").toFile()
        val status = File(folder, "status")
        status.writeText("Name:\tjava\nVmHWM:\t    4000 kB\nVmRSS:\t    1000 kB\nRssAnon:\t     600 kB\nRssFile:\t     400 kB\n")
        val memory = ProcessMemory(status, File(folder, "missing/clear"))
        memory.reset()
        assertEquals(false, memory.resets)
        assertEquals(Memory(4.096, 0.6144, 0.4096), memory.peak())
        status.delete()
        assertNull(ProcessMemory(status, status).peak())
        folder.deleteRecursively()
    }
}
