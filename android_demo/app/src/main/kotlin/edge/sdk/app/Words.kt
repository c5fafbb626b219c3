package edge.sdk.app

import android.content.Context
import edge.sdk.presenter.Key
import edge.sdk.presenter.Message
import edge.sdk.presenter.Pause
import edge.sdk.presenter.Phase

/** The sentence of a message in the phone's language. */
fun Context.sentence(message: Message): String = getString(idOf(message.key), *message.arguments.toTypedArray())

/** A number of seconds as people write it: 3:07 or 1:03:07. */
fun clock(seconds: Double): String {
    val total = Math.round(seconds)
    val (hours, minutes, rest) = Triple(total / 3600, total / 60 % 60, total % 60)
    return if (hours > 0) "%d:%02d:%02d".format(hours, minutes, rest) else "%d:%02d".format(minutes, rest)
}

/** What learning is doing, as a string resource. */
fun idOf(phase: Phase, pause: Pause?): Int = when (phase) {
    Phase.PREPARING -> R.string.phase_preparing
    Phase.RUNNING -> R.string.phase_running
    Phase.STOPPING -> R.string.phase_stopping
    Phase.PAUSED -> when (pause) {
        Pause.HOT -> R.string.pause_hot
        Pause.LOW_BATTERY -> R.string.pause_low_battery
        Pause.INTERRUPTED -> R.string.pause_interrupted
        Pause.FAILED -> R.string.pause_failed
        Pause.PERSON, null -> R.string.pause_person
    }
}

/** By name and not by lookup, so that the compiler and the shrinker know which strings are used. */
private fun idOf(key: Key): Int = when (key) {
    Key.BUNDLE_READY -> R.string.message_bundle_ready
    Key.BUNDLE_MISSING -> R.string.message_bundle_missing
    Key.BUNDLE_WITHOUT_MANIFEST -> R.string.message_bundle_without_manifest
    Key.BUNDLE_CUT -> R.string.message_bundle_cut
    Key.BUNDLE_REFUSED -> R.string.message_bundle_refused
    Key.BUNDLE_OTHER_RUNTIME -> R.string.message_bundle_other_runtime
    Key.BUNDLE_OTHER_VERSION -> R.string.message_bundle_other_version
    Key.BUNDLE_CHANGED -> R.string.message_bundle_changed
    Key.SOURCE_UNREADABLE -> R.string.message_source_unreadable
    Key.NO_SPACE -> R.string.message_no_space
    Key.NO_MEMORY -> R.string.message_no_memory
    Key.PHOTOS_UNREADABLE -> R.string.message_photos_unreadable
    Key.PHOTOS_TOO_MANY -> R.string.message_photos_too_many
    Key.WORD_REFUSED -> R.string.message_word_refused
    Key.STATE_REFUSED -> R.string.message_state_refused
    Key.LEARNING_FAILED -> R.string.message_learning_failed
    Key.PICTURE_FAILED -> R.string.message_picture_failed
    Key.PROMPT_WITHOUT_WORD -> R.string.message_prompt_without_word
    Key.MEASURED -> R.string.message_measured
    Key.MEASURING_FAILED -> R.string.message_measuring_failed
    Key.SAVED -> R.string.message_saved
    Key.SAVING_FAILED -> R.string.message_saving_failed
}
