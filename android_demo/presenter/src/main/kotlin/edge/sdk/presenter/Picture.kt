package edge.sdk.presenter

import edge.sdk.photos.Photo

private val HEADER = Regex("P6\n(\\d{1,5}) (\\d{1,5})\n255\n")

/** A binary PPM file: the app keeps generated pictures in a form that needs no codec. */
internal fun Photo.toPpm(): ByteArray = "P6\n$width $height\n255\n".toByteArray(Charsets.US_ASCII) + rgb

/** What [toPpm] wrote; null for other bytes. */
internal fun photoOfPpm(bytes: ByteArray): Photo? {
    val start = String(bytes, 0, minOf(bytes.size, 24), Charsets.ISO_8859_1)
    val match = HEADER.matchAt(start, 0) ?: return null
    val (width, height) = match.destructured.toList().map(String::toInt)
    val rgb = bytes.copyOfRange(match.value.length, bytes.size)
    return if (rgb.isNotEmpty() && rgb.size == 3 * width * height) Photo(width, height, rgb) else null
}
