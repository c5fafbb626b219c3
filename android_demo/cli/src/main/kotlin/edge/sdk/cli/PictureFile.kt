package edge.sdk.cli

import edge.sdk.photos.Exif
import edge.sdk.photos.Photo
import java.awt.Rectangle
import java.awt.image.BufferedImage
import java.awt.image.IndexColorModel
import java.io.ByteArrayInputStream
import javax.imageio.ImageIO
import javax.imageio.ImageReader

/** Why one picture is skipped, in one line. */
internal class UnusablePictureException(message: String) : Exception(message)

/** One picture file, decoded by Java: upright, in sRGB, over white; the twin of edge_sdk/picture_file.py. */
internal object PictureFile {
    private const val MAX_PIXELS = 40_000_000L // of a picture that is read at full scale
    private const val MAX_WHOLE = 1L shl 28 // the largest cameras of phones have 16384 x 12288
    private const val MARGIN = 2 // a reduced picture keeps this many times the resolution
    private val READ = setOf("png", "jpeg", "gif", "bmp", "tif", "tiff", "wbmp")
    private val HEIF = setOf("heic", "heix", "hevc", "hevx", "heim", "heis", "hevm", "hevs", "mif1", "msf1")

    /**
     * @param resolution side of the square that it becomes; no side is reduced below it
     * @throws UnusablePictureException for whatever the bytes are
     */
    fun decode(bytes: ByteArray, resolution: Int): Photo {
        refuseOthers(bytes)
        return try {
            ImageIO.createImageInputStream(ByteArrayInputStream(bytes)).use { stream ->
                val readers = ImageIO.getImageReaders(stream).asSequence()
                val reader = readers.firstOrNull { it.formatName.lowercase() in READ }
                    ?: throw UnusablePictureException("not a PNG, JPEG, GIF, BMP or TIFF picture")
                try {
                    reader.input = stream
                    read(reader, bytes, resolution)
                } finally {
                    reader.dispose()
                }
            }
        } catch (error: UnusablePictureException) {
            throw error
        } catch (error: OutOfMemoryError) {
            throw UnusablePictureException("too large for Java's memory")
        } catch (error: Exception) { // whatever a decoder says of hostile bytes
            throw UnusablePictureException("damaged (${shown(error).take(100)})")
        }
    }

    private fun read(reader: ImageReader, bytes: ByteArray, resolution: Int): Photo {
        if (reader.getNumImages(true) > 1)
            throw UnusablePictureException("an animation, or several pages; save each as a file")
        val (width, height) = reader.getWidth(0) to reader.getHeight(0)
        if (minOf(width, height) < Photo.MIN_SIDE)
            throw UnusablePictureException("$width x $height pixels; each side must be ${Photo.MIN_SIDE} or more")
        val pixels = width.toLong() * height
        val reduction = reduction(width, height, resolution)
        val most = if (pixels > MAX_WHOLE) MAX_WHOLE else MAX_PIXELS * reduction * reduction
        if (pixels > most)
            throw UnusablePictureException("$width x $height pixels; at most ${most / 1_000_000} million are read of this shape")
        val profile = SrgbTransform.of(bytes)
        val rows = maxOf((MAX_PIXELS / width / reduction).toInt(), 1) * reduction
        val bands = (0 until height step rows).map { top ->
            val parameters = reader.defaultReadParam
            parameters.sourceRegion = Rectangle(0, top, width, minOf(rows, height - top))
            reduced(opaque(reader.read(0, parameters), profile), reduction)
        }
        val rgb = bands.map { it.rgb }.reduce { all, band -> all + band }
        val whole = Photo(bands[0].width, bands.sumOf { it.height }, rgb)
        val orientation = Exif.orientation(bytes)
        val upright = whole.upright(orientation)
        val (shownWidth, shownHeight) = if (orientation > 4) height to width else width to height
        return Photo(upright.width, upright.height, upright.rgb, shownWidth, shownHeight)
    }

    /** By how much a very large picture is reduced before it is cropped and resampled. */
    private fun reduction(width: Int, height: Int, resolution: Int): Int {
        if (width.toLong() * height <= MAX_PIXELS) return 1
        return listOf(8, 4, 2).firstOrNull { minOf(width, height) / it >= MARGIN * resolution } ?: 1
    }

    /** Means of squares of [by] pixels a side, as Pillow's reduce. */
    private fun reduced(photo: Photo, by: Int): Photo {
        if (by == 1) return photo
        val (width, height) = (photo.width + by - 1) / by to (photo.height + by - 1) / by
        val out = ByteArray(3 * width * height)
        for (y in 0 until height) for (x in 0 until width) for (c in 0..2) {
            val (bottom, right) = minOf((y + 1) * by, photo.height) to minOf((x + 1) * by, photo.width)
            var sum = 0
            for (v in y * by until bottom) for (u in x * by until right)
                sum += photo.rgb[3 * (v * photo.width + u) + c].toInt() and 0xff
            val count = (bottom - y * by) * (right - x * by)
            out[3 * (y * width + x) + c] = ((sum + count / 2) / count).toByte()
        }
        return Photo(width, height, out)
    }

    /** RGB over white. The numbers are the file's own: Java's colour models would brighten grey. */
    private fun opaque(image: BufferedImage, profile: SrgbTransform?): Photo {
        val (width, height) = image.width to image.height
        val model = image.colorModel
        val bands = image.raster.numBands
        val isIndexed = model is IndexColorModel
        val depth = image.raster.sampleModel.getSampleSize(0)
        val hasAlpha = model.hasAlpha()
        if (!isIndexed && (bands > 4 || depth !in listOf(8, 16) || (bands == 4 && !hasAlpha)))
            throw UnusablePictureException(
                "of colours that this program cannot read; save it as JPEG or PNG with 8 bits a channel",
            )
        val rgb = ByteArray(3 * width * height)
        val alpha = if (hasAlpha) ByteArray(width * height) else null
        val line = IntArray(width * bands)
        for (y in 0 until height) {
            if (isIndexed) {
                for (x in 0 until width) {
                    val color = image.getRGB(x, y)
                    for (c in 0..2) rgb[3 * (y * width + x) + c] = (color shr (16 - 8 * c)).toByte()
                    alpha?.set(y * width + x, (color ushr 24).toByte())
                }
                continue
            }
            image.raster.getPixels(0, y, width, 1, line)
            for (x in 0 until width) {
                fun sample(band: Int): Byte {
                    val value = line[x * bands + band]
                    return (if (depth == 8) value else if (bands == 1) value / 257 else value shr 8).toByte()
                }
                for (c in 0..2) rgb[3 * (y * width + x) + c] = sample(if (bands < 3) 0 else c)
                alpha?.set(y * width + x, sample(bands - 1))
            }
        }
        profile?.convert(rgb, isGrey = bands < 3 && !isIndexed)
        alpha?.let { overWhite(rgb, it) }
        return Photo(width, height, rgb)
    }

    /** Pillow's alpha compositing, in its integers. */
    private fun overWhite(rgb: ByteArray, alpha: ByteArray) {
        for (i in rgb.indices) {
            val share = (alpha[i / 3].toInt() and 0xff) shl 7
            val sum = (rgb[i].toInt() and 0xff) * share + 255 * ((255 shl 7) - share) + (0x80 shl 7)
            rgb[i] = ((((sum shr 8) + sum) shr 8) shr 7).toByte()
        }
    }

    private fun refuseOthers(bytes: ByteArray) {
        val head = String(bytes, 0, minOf(64, bytes.size), Charsets.ISO_8859_1)
        if (head.startsWith("RIFF") && head.startsWith("WEBP", 8))
            throw UnusablePictureException("WebP, which Java cannot read; save it as JPEG or PNG")
        if (!head.startsWith("ftyp", 4)) return
        val brands = head.drop(8).chunked(4)
        if (brands.any { it == "avif" || it == "avis" })
            throw UnusablePictureException("AVIF, which Java cannot read; save it as JPEG or PNG")
        if (brands.any { it in HEIF }) throw UnusablePictureException("HEIC, which Java cannot read; save it as JPEG")
    }
}
