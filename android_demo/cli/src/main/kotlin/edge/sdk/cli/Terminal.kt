package edge.sdk.cli

/** A line on stderr, where everything goes that is no result; see [printable]. */
internal fun notice(line: String) = System.err.println(printable(line))

/** A text in which no character commands a terminal. */
internal fun printable(text: String) = text.map { if (it.isISOControl()) '?' else it }.joinToString("")
