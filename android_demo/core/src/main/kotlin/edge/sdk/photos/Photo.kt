package edge.sdk.photos

/**
 * A decoded picture: upright, in sRGB, over white. Decoding is the platform's; what follows is the twin of
 * edge_sdk/images.py.
 *
 * @property rgb rows from the top, three bytes a pixel.
 * @property originalWidth of the picture as it came, before cropping and resampling; SDXL is told.
 * @property originalHeight likewise.
 */
class Photo(
    val width: Int,
    val height: Int,
    val rgb: ByteArray,
    val originalWidth: Int = width,
    val originalHeight: Int = height,
) {
    init {
        require(width > 0 && height > 0 && rgb.size == 3 * width * height) {
            "a photo of $width x $height pixels has ${rgb.size} bytes"
        }
    }

    /** The picture as it is to be seen, from EXIF's orientation, 1 to 8; see [Exif]. */
    fun upright(orientation: Int): Photo {
        if (orientation !in 2..8) return this
        val swapped = orientation > 4
        val (columns, rows) = if (swapped) height to width else width to height
        val turned = ByteArray(rgb.size)
        for (y in 0 until rows) for (x in 0 until columns) {
            val (u, v) = if (swapped) y to x else x to y // in the stored picture, before mirroring
            val left = if (orientation in listOf(2, 3, 7, 8)) width - 1 - u else u
            val top = if (orientation in listOf(3, 4, 6, 7)) height - 1 - v else v
            rgb.copyInto(turned, 3 * (y * columns + x), 3 * (top * width + left), 3 * (top * width + left) + 3)
        }
        return Photo(columns, rows, turned)
    }

    /** The square around the centre. */
    fun square(): Photo {
        val side = minOf(width, height)
        val left = (width - side) / 2
        val top = (height - side) / 2
        val cut = ByteArray(3 * side * side)
        for (y in 0 until side) {
            val start = 3 * ((top + y) * width + left)
            rgb.copyInto(cut, 3 * side * y, start, start + 3 * side)
        }
        return Photo(side, side, cut, originalWidth, originalHeight)
    }

    /**
     * A square of [side] pixels a side, as the model takes it.
     *
     * @param centerCrop cut to a square around the centre first; otherwise the sides are squeezed.
     */
    fun resized(side: Int, centerCrop: Boolean = true): Photo {
        val whole = if (centerCrop) square() else this
        if (whole.width == side && whole.height == side) return whole
        val filter = if (minOf(whole.width, whole.height) > side) Filter.LANCZOS else Filter.BICUBIC
        val rgb = resample(whole.rgb, whole.width, whole.height, side, filter)
        return Photo(side, side, rgb, originalWidth, originalHeight)
    }

    /** Pixels (3, height, width), -1 to 1. */
    fun pixels(): FloatArray {
        val plane = width * height
        return FloatArray(3 * plane) { byteToFloat(rgb[3 * (it % plane) + it / plane]) }
    }

    companion object {
        /** A smaller side is no photo. */
        const val MIN_SIDE = 8

        /** A picture from pixels (3, height, width), of which -1 to 1 is shown. */
        fun ofPixels(width: Int, height: Int, pixels: FloatArray): Photo {
            val plane = width * height
            return Photo(width, height, ByteArray(3 * plane) { floatToByte(pixels[it % 3 * plane + it / 3]) })
        }
    }
}

/** b / 127.5 - 1 of an unsigned byte. */
fun byteToFloat(byte: Byte): Float = (byte.toInt() and 0xff) / 127.5f - 1f

/** The way back, halves to the even number. */
fun floatToByte(value: Float): Byte = Math.rint(((value.coerceIn(-1f, 1f) + 1f) * 127.5f).toDouble()).toInt().toByte()
