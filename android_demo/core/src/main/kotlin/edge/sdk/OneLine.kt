package edge.sdk

/** The text of an error on one line, at most [limit] characters; of an error without text its class. */
fun oneLine(error: Throwable, limit: Int = 300): String {
    val text = error.message.orEmpty().split(' ', '\n', '\r', '\t').filter { it.isNotEmpty() }.joinToString(" ")
    return text.ifEmpty { error.javaClass.simpleName }.take(limit)
}
