package edge.sdk.measure

/**
 * What a device tells about itself and this process. What it does not tell is null.
 *
 * @property name such as "Pixel 8"
 * @property system such as "Android 16 (API 36)"
 * @property cpu such as "8 x arm64-v8a"
 */
interface Device {
    val name: String
    val system: String
    val cpu: String

    /** Processor time of this process, in seconds. */
    fun cpuSeconds(): Double? = null

    /** Memory of this process with its share of what others use, too, in MB of 10^6 bytes. */
    fun pss(): Double? = null

    /** Memory that native code has taken from the heap, in MB. */
    fun nativeHeap(): Double? = null

    /** Of the battery, in degrees Celsius. */
    fun temperature(): Double? = null

    /** Charge in percent. */
    fun battery(): Double? = null
}
