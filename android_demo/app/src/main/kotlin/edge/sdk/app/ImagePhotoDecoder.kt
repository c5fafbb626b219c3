package edge.sdk.app

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.ColorSpace
import android.graphics.ImageDecoder
import android.graphics.PorterDuff
import android.os.Build
import edge.sdk.photos.Exif
import edge.sdk.photos.Photo
import edge.sdk.presenter.PhotoDecoder
import edge.sdk.presenter.UnreadablePhoto
import java.io.File
import java.io.IOException

/**
 * Photos as the library takes them: upright, in sRGB, over white.
 *
 * The bitmap lies outside the Java heap, and a photo of more than 40 million pixels is decoded smaller at once.
 */
class ImagePhotoDecoder : PhotoDecoder {
    override fun decode(file: File, side: Int): Photo = try {
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.P) {
            photoOf(decodeImage(file, side))
        } else {
            photoOf(decodeFile(file, side)).upright(Exif.orientation(file.readBytes()))
        }
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

    /** Before Android 9. It leaves the picture as it is stored. */
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

    /** The pixels over white. The bitmap is given back. */
    private fun photoOf(bitmap: Bitmap): Photo = try {
        val (width, height) = bitmap.width to bitmap.height
        if (minOf(width, height) < Photo.MIN_SIDE) throw UnreadablePhoto("a side is smaller than ${Photo.MIN_SIDE} pixels")
        // White *under* what is there: one bitmap in memory instead of two.
        if (bitmap.hasAlpha()) Canvas(bitmap).drawColor(Color.WHITE, PorterDuff.Mode.DST_OVER)
        val row = IntArray(width)
        val rgb = ByteArray(3 * width * height)
        var at = 0
        for (y in 0 until height) {
            bitmap.getPixels(row, 0, width, 0, y, width, 1)
            for (pixel in row) {
                rgb[at++] = (pixel shr 16).toByte()
                rgb[at++] = (pixel shr 8).toByte()
                rgb[at++] = pixel.toByte()
            }
        }
        Photo(width, height, rgb)
    } finally {
        bitmap.recycle()
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
