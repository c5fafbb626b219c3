package edge.sdk.cli

import edge.sdk.EdgeSdkException

/**
 * A flag of the command line.
 *
 * @property name without its dashes, with underscores; dashes are taken for them
 * @property values that it takes: 0 for a switch
 * @property shown what stands for its value in the help
 */
internal class Flag(
    val name: String,
    val help: String,
    val shown: String = "TEXT",
    val values: Int = 1,
    val required: Boolean = false,
)

/** The words of a command line behind its command, read by a list of flags. */
internal class Arguments private constructor(private val given: Map<String, List<String>>) {
    operator fun contains(name: String) = name in given

    fun text(name: String): String? = given[name]?.first()

    fun texts(name: String): List<String>? = given[name]

    fun required(name: String): String = given.getValue(name).first()

    fun whole(name: String): Int? = number(name, "a whole number") { it.toIntOrNull() }

    fun seed(name: String): ULong? = number(name, "a whole number of at least 0 and below 2**64") { it.toULongOrNull() }

    fun real(name: String): Double? = number(name, "a number") { it.toDoubleOrNull() }

    private fun <T> number(name: String, what: String, parse: (String) -> T?): T? =
        text(name)?.let { parse(it) ?: throw EdgeSdkException("--$name is '${it.take(60)}'; it must be $what") }

    companion object {
        /**
         * @param command for messages
         * @throws EdgeSdkException a flag is unknown, lacks its value or is missing
         */
        fun parse(words: List<String>, flags: List<Flag>, command: String): Arguments {
            val known = flags.associateBy { it.name }
            val help = "see edge-personalize-jvm $command --help"
            val given = LinkedHashMap<String, List<String>>()
            var at = 0
            while (at < words.size) {
                val word = words[at++]
                if (!word.startsWith("--"))
                    throw EdgeSdkException("'${word.take(60)}' stands alone; flags begin with two dashes, $help")
                val name = word.drop(2).substringBefore('=').replace('-', '_')
                val flag = known[name] ?: throw EdgeSdkException("--${name.take(60)} is no flag of $command; $help")
                val values = mutableListOf<String>()
                if ('=' in word) values += word.substringAfter('=')
                while (values.size < flag.values) {
                    val next = words.getOrNull(at)?.takeUnless { it.startsWith("--") }
                        ?: throw EdgeSdkException("--$name lacks its value (${flag.shown}); $help")
                    values += next
                    at++
                }
                if (values.size > flag.values) throw EdgeSdkException("--$name takes no value; $help")
                given[name] = values
            }
            flags.firstOrNull { it.required && it.name !in given }?.let {
                throw EdgeSdkException("--${it.name} is missing (${it.help}); $help")
            }
            return Arguments(given)
        }
    }
}
