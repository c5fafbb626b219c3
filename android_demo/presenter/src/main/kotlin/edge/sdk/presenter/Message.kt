package edge.sdk.presenter

/**
 * One sentence for the person who holds the phone.
 *
 * The words are string resources, in every language of the app: [Key.resource] is the name, [arguments] fill its places.
 *
 * @property detail the library's own line, for the log; null if there is none
 */
data class Message(val key: Key, val arguments: List<Any> = emptyList(), val detail: String? = null) {
    constructor(key: Key, vararg arguments: Any) : this(key, arguments.toList())

    /** The same sentence with the library's own line. */
    fun because(detail: String?) = copy(detail = detail)
}

/**
 * What the app has to say.
 *
 * @property arguments how many places the sentence has
 */
enum class Key(val arguments: Int) {
    BUNDLE_READY(1), // name
    BUNDLE_MISSING(1), // name
    BUNDLE_WITHOUT_MANIFEST(1), // name
    BUNDLE_CUT(2), // name, file
    BUNDLE_REFUSED(1), // name
    BUNDLE_OTHER_RUNTIME(1), // name
    BUNDLE_OTHER_VERSION(1), // name
    BUNDLE_CHANGED(1), // name
    SOURCE_UNREADABLE(1), // name
    NO_SPACE(1), // MB that are free
    NO_MEMORY(0),
    PHOTOS_UNREADABLE(2), // how many, of how many
    PHOTOS_TOO_MANY(1), // most
    WORD_REFUSED(1), // word
    STATE_REFUSED(0),
    LEARNING_FAILED(0),
    PICTURE_FAILED(0),
    PROMPT_WITHOUT_WORD(1), // word
    MEASURED(1), // file
    MEASURING_FAILED(0),
    SAVED(0),
    SAVING_FAILED(0),
    ;

    /** Name of the string resource. */
    val resource: String get() = "message_" + name.lowercase()
}
