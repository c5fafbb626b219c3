package edge.sdk

/** Whatever a user can cause. The message is one line: what was given, what is accepted, what to do. */
open class EdgeSdkException(message: String, cause: Throwable? = null) : Exception(message, cause)
