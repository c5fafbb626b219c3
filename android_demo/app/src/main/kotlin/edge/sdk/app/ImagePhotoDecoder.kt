package edge.sdk.app

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.ColorSpace
import android.graphics.ImageDecoder
import android.os.Build
import edge.sdk.photos.Exif
import edge.sdk.photos.Photo
import edge.sdk.presenter.PhotoDecoder
import edge.sdk.presenter.UnreadablePhoto
import java.io.File
import java.io.IOException

/**
 * Photos as the model takes them: upright, in sRGB, over white; then cut and resampled by the library's own arithmetic.
 *
 * The bitmap lies outside the Java heap, and only the square around its centre is copied onto it.
 */
class ImagePhotoDecoder : PhotoDecoder {
    override fun decode(file: File, side: Int): Photo = try {
        val bitmap = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.P) decodeImage(file, side) else decodeFile(file, side)
        val square = try {
            if (minOf(bitmap.width, bitmap.height) < Photo.MIN_SIDE) throw UnreadablePhoto("smaller than ${Photo.MIN_SIDE} pixels")
            squareOf(bitmap)
        } finally {
            bitmap.recycle()
        }
        val orientation = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.P) 1 else Exif.orientation(file.readBytes())
        square.resized(side).upright(orientation)
    } catch (error: IOException) { // ImageDecoder.DecodeException is one
        throw UnreadablePhoto("it cannot be decoded: ${error.message}", error)
    } catch (error: OutOfMemoryError) {
        throw UnreadablePhoto("it is too large for this phone", error)
    }

    private fun decodeImage(file: File, side: Int): Bitmap =
        ImageDecoder.decodeBitmap(ImageDecoder.createSource(file)) { decoder, info, _ ->
            decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE // pixels are read here, not drawn
            decoder.setTargetColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
            decoder.setTargetSampleSize(sampleSize(info.size.width, info.size.height, side))
            decoder.isMutableRequired = true // to paint white under it
        }

    /** Before Android 9. EXIF's orientation is then applied to the small square. */
    private fun decodeFile(file: File, side: Int): Bitmap {
        val options = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        BitmapFactory.decodeFile(file.path, options)
        if (options.outWidth < 1 || options.outHeight < 1) throw IOException("no picture")
        options.inJustDecodeBounds = false
        options.inSampleSize = sampleSize(options.outWidth, options.outHeight, side)
        options.inPreferredColorSpace = ColorSpace.get(ColorSpace.Named.SRGB)
        options.inMutable = true
        return BitmapFactory.decodeFile(file.path, options) ?: throw IOException("damaged")
    }

    /** The square around the centre, over white. */
    private fun squareOf(bitmap: Bitmap): Photo {
        val size = minOf(bitmap.width, bitmap.height)
        val left = (bitmap.width - size) / 2
        val top = (bitmap.height - size) / 2
        if (bitmap.hasAlpha()) {
            // Drawing white *under* what is there keeps one bitmap in memory instead of two.
            Canvas(bitmap).drawColor(Color.WHITE, android.graphics.PorterDuff.Mode.DST_OVER)
        }
        val row = IntArray(size)
        val rgb = ByteArray(3 * size * size)
        var at = 0
        for (y in 0 until size) {
            bitmap.getPixels(row, 0, size, left, top + y, size, 1)
            for (pixel in row) {
                rgb[at++] = (pixel shr 16).toByte()
                rgb[at++] = (pixel shr 8).toByte()
                rgb[at++] = pixel.toByte()
            }
        }
        return Photo(size, size, rgb)
    }

    companion object {
        private const val MAX_PIXELS = 40_000_000L // of a picture that is decoded at full scale
        private const val MARGIN = 2 // a reduced picture keeps this many times the model's side

        /** 1, or by how much a very large picture is reduced: the most that keeps the margin. See export/README.md. */
        fun sampleSize(width: Int, height: Int, side: Int): Int =
            if (width.toLong() * height <= MAX_PIXELS) 1
            else listOf(8, 4, 2).firstOrNull { minOf(width, height) / it >= MARGIN * side } ?: 1
    }
}
