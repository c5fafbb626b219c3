package edge.sdk.zo

/**
 * A setting that describes itself: range checks and a command line read it. The twin of edge_sdk/zo/options.py.
 *
 * @property name as it is in JSON and, after two dashes, on the command line
 * @property help what it does and its unit, without its default
 * @property group the heading of the command line's help; null keeps it off the command line
 * @property value of a config
 */
class Setting internal constructor(
    val name: String,
    val help: String,
    val group: String?,
    val value: (ZoConfig) -> Any,
    internal val accepted: Accepted,
) {
    /** What is wrong with a value, in words; null where it is accepted. */
    internal fun problem(value: Any): String? = if (accepted.holds(value)) null else accepted.words
}

/** The values that a setting takes, and how a message names them. */
internal sealed class Accepted(val words: String) {
    abstract fun holds(value: Any): Boolean

    class Words(private vararg val choices: String) : Accepted("one of ${choices.joinToString(", ")}") {
        override fun holds(value: Any) = value in choices
    }

    class Whole(private val range: IntRange, private val orZero: Boolean = false) :
        Accepted((if (orZero) "0 (off) or " else "") + "from ${range.first} to ${range.last}") {
        override fun holds(value: Any) = value is Int && (value in range || orZero && value == 0)
    }

    class Real(words: String, private val range: (Double) -> Boolean) : Accepted(words) {
        override fun holds(value: Any) = value is Double && range(value)
    }

    object Flag : Accepted("true or false") {
        override fun holds(value: Any) = value is Boolean
    }

    object Pair : Accepted("LO HI with 0 <= LO < HI <= 100000") {
        override fun holds(value: Any) =
            value is TimestepRange && 0 <= value.low && value.low < value.high && value.high <= 100_000
    }
}
