package edge.sdk.cli

import edge.sdk.photos.Container
import java.awt.color.ColorSpace
import java.awt.color.ICC_ColorSpace
import java.awt.color.ICC_Profile
import java.awt.image.ColorConvertOp
import java.awt.image.DataBufferByte
import java.awt.image.Raster
import java.io.ByteArrayInputStream
import java.util.zip.InflaterInputStream
import kotlin.math.abs

/**
 * From the colours of an embedded ICC profile to sRGB, which is what models were trained on; the twin of
 * edge_sdk/color_profile.py.
 */
internal class SrgbTransform private constructor(profile: ICC_Profile) {
    private val isOfGrey = profile.colorSpaceType == ColorSpace.TYPE_GRAY
    private val operation = ColorConvertOp(ICC_ColorSpace(profile), ColorSpace.getInstance(ColorSpace.CS_sRGB), null)

    /** Converts pixels in place, three bytes each; a profile of grey is for grey pictures only. */
    fun convert(rgb: ByteArray, isGrey: Boolean) {
        if (isOfGrey && !isGrey) return
        val pixels = rgb.size / 3
        for (start in 0 until pixels step BAND) {
            val count = minOf(BAND, pixels - start)
            val bands = if (isOfGrey) 1 else 3
            val bytes = ByteArray(count * bands) { rgb[3 * start + if (isOfGrey) 3 * it else it] }
            val source = Raster.createInterleavedRaster(DataBufferByte(bytes, bytes.size), count, 1, count * bands, bands, IntArray(bands) { it }, null)
            val target = Raster.createInterleavedRaster(java.awt.image.DataBuffer.TYPE_BYTE, count, 1, 3, null)
            operation.filter(source, target)
            (target.dataBuffer as DataBufferByte).data.copyInto(rgb, 3 * start, 0, 3 * count)
        }
    }

    /** Whether it moves no colour by more than two levels: a profile of sRGB itself. */
    private fun isIdentity(): Boolean {
        val levels = List(17) { (it * 255 / 16.0).toInt() }
        val grid = if (isOfGrey) (0..255).flatMap { listOf(it, it, it) } else levels.flatMap { r -> levels.flatMap { g -> levels.flatMap { b -> listOf(r, g, b) } } }
        val bytes = ByteArray(grid.size) { grid[it].toByte() }
        convert(bytes, isGrey = true)
        return grid.indices.all { abs((bytes[it].toInt() and 0xff) - grid[it]) <= SAME }
    }

    companion object {
        private const val SAME = 2 // levels
        private const val BAND = 1 shl 20 // pixels that are converted at a time

        /** Null where a file has no profile, or one that is sRGB, broken, or of other colours. */
        fun of(file: ByteArray): SrgbTransform? = try {
            val blocks = Container.of(file).filter { it.name == "icc" }.map { it.data }
            blocks.takeIf { it.isNotEmpty() }?.reduce { all, more -> all + more }?.let { data ->
                val isPng = file[0] == 0x89.toByte()
                val profile = ICC_Profile.getInstance(if (isPng) inflated(data) else data)
                SrgbTransform(profile).takeUnless { profile.colorSpaceType !in listOf(ColorSpace.TYPE_RGB, ColorSpace.TYPE_GRAY) || it.isIdentity() }
            }
        } catch (error: Exception) { // whatever Java says of a broken profile, viewers show the picture without it
            null
        }

        /** The profile of PNG's chunk: a name, a zero, the method, and deflated data. */
        private fun inflated(chunk: ByteArray): ByteArray =
            InflaterInputStream(ByteArrayInputStream(chunk, chunk.indexOf(0) + 2, chunk.size)).use { it.readNBytes(16 shl 20) }
    }
}
