package edge.sdk.presenter

/**
 * A generated picture.
 *
 * @property rgb 3 bytes a pixel, row by row
 */
class Picture(val width: Int, val height: Int, val rgb: ByteArray) {
    init {
        require(rgb.size == 3 * width * height) { "$width x $height pixels have ${rgb.size} bytes" }
    }

    /** A binary PPM file: the app keeps pictures in a form that needs no codec. */
    fun toBytes(): ByteArray = "P6\n$width $height\n255\n".toByteArray(Charsets.US_ASCII) + rgb

    companion object {
        private val HEADER = Regex("P6\n(\\d{1,5}) (\\d{1,5})\n255\n")

        /** What [toBytes] wrote; null for other bytes. */
        fun parse(bytes: ByteArray): Picture? {
            val start = String(bytes, 0, minOf(bytes.size, 24), Charsets.ISO_8859_1)
            val match = HEADER.matchAt(start, 0) ?: return null
            val (width, height) = match.destructured.toList().map(String::toInt)
            val rgb = bytes.copyOfRange(match.value.length, bytes.size)
            return if (rgb.size == 3 * width * height) Picture(width, height, rgb) else null
        }
    }
}
