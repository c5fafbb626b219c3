package edge.sdk.presenter

/**
 * What the phone tells about itself. What it does not tell is null.
 *
 * @property temperature of the battery, in degrees Celsius
 * @property thermalStatus Android's, from 0 (none) over 3 (severe) to 6 (shutdown)
 * @property battery charge in percent
 * @property memory of this process, in MB of 10^6 bytes
 */
data class Reading(
    val temperature: Double? = null,
    val thermalStatus: Int? = null,
    val battery: Int? = null,
    val charging: Boolean = false,
    val memory: Double? = null,
)

/** Why learning rests. */
enum class Pause {
    /** The person wants it; only the person ends it. */
    PERSON,

    /** The phone is hot; learning goes on by itself. */
    HOT,

    /** The battery is low; learning goes on by itself. */
    LOW_BATTERY,

    /** The app was ended meanwhile; learning goes on as soon as Android allows. */
    INTERRUPTED,

    /** Something failed; the person may try again. */
    FAILED,
    ;

    /** Whether learning goes on without the person. */
    val isAutomatic: Boolean get() = this == HOT || this == LOW_BATTERY
}

/**
 * Decides when the phone needs a rest. A rest ends at a lower mark than it begins, or learning would stop and go at every
 * tenth of a degree.
 */
class Governor {
    private var hot = false
    private var low = false

    /** Why to rest, given what the phone tells now; null to learn. */
    fun decide(reading: Reading): Pause? {
        hot = if (hot) !isCool(reading) else isHot(reading)
        low = if (low) !isCharged(reading) else isEmpty(reading)
        return if (hot) Pause.HOT else if (low) Pause.LOW_BATTERY else null
    }

    private fun isHot(now: Reading) =
        (now.thermalStatus ?: 0) >= SEVERE || (now.temperature ?: 0.0) >= HOT_CELSIUS

    private fun isCool(now: Reading) =
        (now.thermalStatus ?: 0) <= LIGHT && (now.temperature ?: 0.0) <= COOL_CELSIUS

    private fun isEmpty(now: Reading) = !now.charging && (now.battery ?: 100) <= LOW_PERCENT

    private fun isCharged(now: Reading) = now.charging || (now.battery ?: 100) >= ENOUGH_PERCENT

    companion object {
        const val SEVERE = 3 // PowerManager.THERMAL_STATUS_SEVERE: the phone is slow already
        const val LIGHT = 1 // PowerManager.THERMAL_STATUS_LIGHT
        const val HOT_CELSIUS = 43.0 // of the battery; phones stop charging at about 45
        const val COOL_CELSIUS = 40.0
        const val LOW_PERCENT = 15 // Android's own warning
        const val ENOUGH_PERCENT = 20
    }
}
