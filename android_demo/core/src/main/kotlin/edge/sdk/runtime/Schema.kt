package edge.sdk.runtime

import java.math.BigInteger

/** What a value of JSON may be; the twin of edge_sdk/system/schema.py. Entries that a table does not have are left alone. */
internal sealed interface Kind

/** An integer. */
internal class Whole(val least: Long, val most: Long) : Kind

/** An integer of 64 bits without a sign, such as a seed. */
internal object Unsigned : Kind

/** A finite number. */
internal class Real(val least: Double = -LARGEST, val most: Double = LARGEST) : Kind

/** A list of one kind. */
internal class Many(val kind: Kind, val least: Int = 0, val most: Int = 1 shl 24) : Kind

/** A value of one of several kinds. */
internal class Either(vararg val kinds: Kind) : Kind

/** One of these values. */
internal class OneOf(vararg val values: Any?) : Kind

/** An object with these entries; one of [Maybe] may be missing. */
internal class Entries(val entries: Map<String, Kind>) : Kind {
    constructor(vararg entries: Pair<String, Kind>) : this(entries.toMap())
}

/** An object whose entries have any names. */
internal class Named(val kind: Kind) : Kind

/** An entry that may be missing. */
internal class Maybe(val kind: Kind) : Kind

internal object Text : Kind
internal object Flag : Kind
internal object Null : Kind
internal object AnyObject : Kind

private const val LARGEST = 3e38 // of a float32, about

/**
 * Checks a value.
 *
 * @param name of the value, for messages, such as "embedding.0.scale".
 * @throws IllegalArgumentException one line that names the entry and says what is accepted.
 */
internal fun check(value: Any?, kind: Kind, name: String = "") {
    val prefix = if (name.isEmpty()) "" else "$name."
    when (kind) {
        is Maybe -> check(value, kind.kind, name)
        is Entries -> {
            demand(value is Map<*, *>, value, kind, name)
            for ((key, inner) in kind.entries) {
                if (key in value as Map<*, *>) check(value[key], inner, "$prefix$key")
                else if (inner !is Maybe) throw IllegalArgumentException("$prefix$key is missing")
            }
        }
        is Named -> {
            demand(value is Map<*, *>, value, kind, name)
            for ((key, each) in value as Map<*, *>) check(each, kind.kind, prefix + ascii(key).trim('\''))
        }
        is Many -> {
            demand(value is List<*> && value.size in kind.least..kind.most, value, kind, name)
            (value as List<*>).forEachIndexed { i, each -> check(each, kind.kind, "$prefix$i") }
        }
        is Either -> checkEither(value, kind, name)
        else -> demand(fits(value, kind), value, kind, name)
    }
}

private fun fits(value: Any?, kind: Kind): Boolean = when (kind) {
    is Whole -> value is Long && value in kind.least..kind.most
    Unsigned -> (value is Long || value is BigInteger) && value.toString().toULongOrNull() != null
    is Real -> (value is Long || value is BigInteger || value is Double) && (value as Number).toDouble() in kind.least..kind.most
    is OneOf -> value in kind.values
    Text -> value is String
    Flag -> value is Boolean
    Null -> value == null
    else -> value is Map<*, *>
}

/** Of a list or an object that is accepted in one form only, the message names what is wrong inside. */
private fun checkEither(value: Any?, kind: Either, name: String) {
    val errors = mutableListOf<IllegalArgumentException>()
    for (each in kind.kinds) {
        try {
            return check(value, each, name)
        } catch (error: IllegalArgumentException) {
            if ((value is List<*> && each is Many) || (value is Map<*, *> && (each is Entries || each is Named))) errors += error
        }
    }
    if (errors.size == 1) throw errors.single()
    demand(false, value, kind, name)
}

private fun demand(holds: Boolean, value: Any?, kind: Kind, name: String) {
    if (!holds) throw IllegalArgumentException("${name.ifEmpty { "the whole" }} is ${shorten(value)}, not ${describe(kind)}")
}

private fun shorten(value: Any?): String = when {
    value is Map<*, *> && value.isNotEmpty() -> "an object of ${value.size}"
    value is List<*> && value.isNotEmpty() -> "a list of ${value.size}"
    else -> ascii(value)
}

private fun describe(kind: Kind): String = when (kind) {
    is Whole -> "an integer from ${kind.least} to ${kind.most}"
    Unsigned -> "an integer from 0 to ${ULong.MAX_VALUE}"
    is Real -> when {
        kind.least == -LARGEST -> "a finite number"
        kind.most == LARGEST -> "a number of at least ${shortest(kind.least)}"
        else -> "a number from ${shortest(kind.least)} to ${shortest(kind.most)}"
    }
    is Many -> if (kind.most < 1 shl 24) "a list of ${kind.least} to ${kind.most} values" else "a list"
    is Either -> kind.kinds.joinToString(" or ") { describe(it) }
    is OneOf -> if (kind.values.size == 1) "${kind.values[0]}" else "one of ${kind.values.joinToString(", ")}"
    is Maybe -> describe(kind.kind)
    is Entries, is Named, AnyObject -> "an object"
    Text -> "a text"
    Flag -> "true or false"
    Null -> "null"
}

private fun shortest(value: Double) = value.toString().removeSuffix(".0")
