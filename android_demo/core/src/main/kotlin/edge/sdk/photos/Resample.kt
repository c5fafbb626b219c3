package edge.sdk.photos

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.sin

/** A filter of Pillow: weight by distance in pixels of the coarser picture, and how far it reaches. */
internal enum class Filter(val reach: Double, val weight: (Double) -> Double) {
    LANCZOS(3.0, { x -> if (x >= -3 && x < 3) sinc(x) * sinc(x / 3) else 0.0 }),
    BICUBIC(2.0, { x -> bicubic(abs(x)) }),
}

private fun sinc(x: Double) = if (x == 0.0) 1.0 else sin(PI * x) / (PI * x)

private fun bicubic(d: Double): Double {
    val a = -0.5
    return when {
        d < 1 -> ((a + 2) * d - (a + 3)) * d * d + 1
        d < 2 -> (((d - 5) * d + 8) * d - 4) * a
        else -> 0.0
    }
}

private const val BITS = 22 // of a weight's fraction

/** For a place of the result: where its window begins, and the window's weights as integers. */
private class Window(val first: Int, val weights: IntArray)

private fun windows(from: Int, to: Int, filter: Filter): List<Window> {
    val scale = from.toDouble() / to
    val stretch = maxOf(scale, 1.0)
    val support = filter.reach * stretch
    return List(to) { i ->
        val center = (i + 0.5) * scale
        val first = maxOf(0, (center - support + 0.5).toInt())
        val end = minOf(from, (center + support + 0.5).toInt())
        val weights = DoubleArray(end - first) { filter.weight((it + first - center + 0.5) * (1 / stretch)) }
        val total = weights.sum()
        Window(first, IntArray(weights.size) { fixed(if (total != 0.0) weights[it] / total else weights[it]) })
    }
}

private fun fixed(weight: Double) = (weight * (1 shl BITS) + if (weight < 0) -0.5 else 0.5).toInt()

/**
 * Pillow's resampling to a square in its fixed point: rows, then columns, each rounded to bytes. Of a picture that shrinks
 * in height more than twice as much as in width, columns come first, as in Pillow 13.
 *
 * @param rgb three bytes a pixel, [width] x [height] of them.
 */
internal fun resample(rgb: ByteArray, width: Int, height: Int, side: Int, filter: Filter): ByteArray {
    if (height - side > 2 * maxOf(width - side, 0))
        return acrossRows(acrossColumns(rgb, width, height, side, filter), width, side, side, filter)
    return acrossColumns(acrossRows(rgb, width, height, side, filter), side, height, side, filter)
}

private fun acrossRows(rgb: ByteArray, width: Int, height: Int, columns: Int, filter: Filter): ByteArray {
    if (columns == width) return rgb
    val places = windows(width, columns, filter)
    val out = ByteArray(3 * columns * height)
    for (y in 0 until height) for (x in 0 until columns) for (c in 0..2)
        out[3 * (y * columns + x) + c] = weighted(rgb, places[x], 3 * y * width + c, 3)
    return out
}

private fun acrossColumns(rgb: ByteArray, width: Int, height: Int, rows: Int, filter: Filter): ByteArray {
    if (rows == height) return rgb
    val places = windows(height, rows, filter)
    val out = ByteArray(3 * width * rows)
    for (y in 0 until rows) for (x in 0 until width) for (c in 0..2)
        out[3 * (y * width + x) + c] = weighted(rgb, places[y], 3 * x + c, 3 * width)
    return out
}

private fun weighted(source: ByteArray, window: Window, start: Int, step: Int): Byte {
    var sum = 1 shl (BITS - 1)
    var at = start + window.first * step
    for (weight in window.weights) {
        sum += (source[at].toInt() and 0xff) * weight
        at += step
    }
    return (sum shr BITS).coerceIn(0, 255).toByte()
}
