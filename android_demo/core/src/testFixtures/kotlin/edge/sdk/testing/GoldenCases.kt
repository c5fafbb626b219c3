package edge.sdk.testing

import edge.sdk.runtime.Json
import java.io.File
import java.math.BigInteger

/** The golden files, from the folder that the system property `edge.golden` names. */
object GoldenCases {
    /** How many cases were gone through. */
    var count = 0
        private set

    val folder = File(requireNotNull(System.getProperty("edge.golden")) { "the property edge.golden is not set" })

    /** One file of JSON. */
    fun read(name: String): Golden = Golden(Json.parse(folder.resolve(name).readText()), name)

    fun bytes(name: String): ByteArray = folder.resolve(name).readBytes()

    /** Goes through cases, counts each, and says in which one a check failed. */
    fun each(cases: Golden, check: (Golden) -> Unit) = cases.list.forEach { one(it, check) }

    /** One case, see [each]. */
    fun one(case: Golden, check: (Golden) -> Unit) {
        count++
        try {
            check(case)
        } catch (error: Throwable) {
            throw AssertionError("${case.place}: ${error.message}", error)
        }
    }
}

/** A value of a golden file and where it is. */
class Golden(val value: Any?, val place: String) {
    operator fun get(name: String) = Golden(map.getValue(name), "$place.$name")

    fun has(name: String) = map[name] != null

    @Suppress("UNCHECKED_CAST")
    val map: Map<String, Any?> get() = value as Map<String, Any?>
    val list: List<Golden> get() = (value as List<*>).mapIndexed { i, each -> Golden(each, "$place[$i]") }
    val text: String get() = value as String
    val flag: Boolean get() = value as Boolean
    val int: Int get() = Math.toIntExact(value as Long)
    val long: Long get() = value as Long
    val seed: ULong get() = if (value is BigInteger) value.toString().toULong() else long.toULong()

    /** A number; null is NaN. */
    val double: Double get() = (value as Number?)?.toDouble() ?: Double.NaN

    /** All numbers of an array, whatever its shape, in C order. */
    val doubles: DoubleArray get() = flat(value).toDoubleArray()
    val floats: FloatArray get() = doubles.let { all -> FloatArray(all.size) { all[it].toFloat() } }
    val ints: IntArray get() = doubles.let { all -> IntArray(all.size) { all[it].toInt() } }

    private fun flat(value: Any?): List<Double> = when (value) {
        is List<*> -> value.flatMap(::flat)
        else -> listOf((value as Number?)?.toDouble() ?: Double.NaN)
    }
}
