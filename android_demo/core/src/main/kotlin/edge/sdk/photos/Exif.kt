package edge.sdk.photos

import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * EXIF's orientation in the container of a JPEG, PNG or WebP; the twin of what edge_sdk/picture_file.py reads.
 *
 * Damaged EXIF is no reason to skip a photo: then the picture is shown as it is stored.
 */
object Exif {
    private const val ORIENTATION = 0x0112 // the tag
    private val INTEGERS = mapOf(1 to 1, 3 to 2, 4 to 4) // EXIF's types, and their bytes
    private val EXIF = "Exif\u0000\u0000".toByteArray()
    private val XMP = "http://ns.adobe.com/xap/1.0/\u0000".toByteArray()
    private val XMP_ORIENTATION = Regex("tiff:Orientation(?:=\"|>)([1-8])")

    /** The orientation, 1 to 8; 1 where there is none or it means nothing. */
    fun orientation(file: ByteArray): Int {
        val blocks = Container.of(file)
        val exif = blocks.filter { it.name == "exif" }.map { it.data.without(EXIF) }
        return exif.takeIf { it.isNotEmpty() }?.reduce { all, more -> all + more }?.let(::stored)
            ?: blocks.filter { it.name == "xmp" }.firstNotNullOfOrNull { block ->
                XMP_ORIENTATION.find(String(block.data.without(XMP), Charsets.ISO_8859_1))?.groupValues?.get(1)?.toInt()
            } ?: 1
    }

    /** The first orientation of an EXIF block; a tag whose offset is wrong does not hide it. */
    private fun stored(block: ByteArray): Int? {
        val data = ByteBuffer.wrap(block)
        if (block.size < 8) return null
        data.order(
            when (String(block, 0, 2, Charsets.ISO_8859_1)) {
                "II" -> ByteOrder.LITTLE_ENDIAN
                "MM" -> ByteOrder.BIG_ENDIAN
                else -> return null
            },
        )
        val first = data.getInt(4).toLong() and 0xffffffffL
        if (first + 2 > block.size) return null
        val count = data.getShort(first.toInt()).toInt() and 0xffff
        for (i in 0 until count) {
            val at = first + 2 + 12L * i
            if (at + 12 > block.size) break
            if ((data.getShort(at.toInt()).toInt() and 0xffff) != ORIENTATION) continue
            val bytes = INTEGERS[data.getShort(at.toInt() + 2).toInt()] ?: continue
            if (data.getInt(at.toInt() + 4) == 0) continue
            val value = when (bytes) {
                1 -> data.get(at.toInt() + 8).toInt()
                2 -> data.getShort(at.toInt() + 8).toInt()
                else -> data.getInt(at.toInt() + 8)
            }
            if (value in 1..8) return value
        }
        return null
    }

    private fun ByteArray.without(prefix: ByteArray) =
        if (size >= prefix.size && prefix.indices.all { this[it] == prefix[it] }) copyOfRange(prefix.size, size) else this
}

/** A part of a picture file beside its pixels: "exif", "xmp" or "icc". */
class Block(val name: String, val data: ByteArray)

/** The containers of JPEG, PNG and WebP, as far as they hold something beside pixels. */
object Container {
    private val CHUNKS = mapOf("eXIf" to "exif", "EXIF" to "exif", "XMP " to "xmp", "iCCP" to "icc", "ICCP" to "icc")
    private const val PNG = "\u0089PNG\r\n\u001a\n"

    /** The blocks of a file, in its order; none of another format, and what comes before damage of a damaged one. */
    fun of(file: ByteArray): List<Block> {
        val head = String(file, 0, minOf(12, file.size), Charsets.ISO_8859_1)
        return when {
            head.startsWith("\u00ff\u00d8\u00ff") -> jpeg(file)
            head.startsWith(PNG) -> png(file)
            head.startsWith("RIFF") && head.endsWith("WEBP") -> webp(file)
            else -> emptyList()
        }
    }

    private fun jpeg(file: ByteArray): List<Block> {
        val blocks = mutableListOf<Block>()
        val data = ByteBuffer.wrap(file)
        var at = 2
        while (at + 4 <= file.size && file[at] == 0xff.toByte()) {
            val marker = file[at + 1].toInt() and 0xff
            if (marker == 0xff) { // fill bytes
                at++
                continue
            }
            if (marker == 0xda || marker == 0xd9) break // pixels, or the end
            val end = at + 2 + (data.getShort(at + 2).toInt() and 0xffff)
            if (end > file.size || end < at + 4) break
            val content = file.copyOfRange(at + 4, end)
            val text = String(content, 0, minOf(32, content.size), Charsets.ISO_8859_1)
            when {
                marker == 0xe1 && text.startsWith("Exif\u0000") -> blocks += Block("exif", content)
                marker == 0xe1 && text.startsWith("http://ns.adobe.com/xap/1.0/") -> blocks += Block("xmp", content)
                marker == 0xe2 && text.startsWith("ICC_PROFILE\u0000") && content.size > 14 ->
                    blocks += Block("icc", content.copyOfRange(14, content.size))
            }
            at = end
        }
        return blocks
    }

    private fun png(file: ByteArray): List<Block> {
        val blocks = mutableListOf<Block>()
        val data = ByteBuffer.wrap(file)
        var at = PNG.length
        while (at + 12 <= file.size) {
            val length = data.getInt(at)
            if (length < 0 || length > file.size - at - 12) break
            val name = String(file, at + 4, 4, Charsets.ISO_8859_1)
            val content = file.copyOfRange(at + 8, at + 8 + length)
            CHUNKS[name]?.let { blocks += Block(it, content) }
            if (name == "iTXt" && String(content, Charsets.ISO_8859_1).startsWith("XML:com.adobe.xmp\u0000")) blocks += Block("xmp", content)
            at += 12 + length
        }
        return blocks
    }

    private fun webp(file: ByteArray): List<Block> {
        val blocks = mutableListOf<Block>()
        val data = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN)
        var at = 12
        while (at + 8 <= file.size) {
            val length = data.getInt(at + 4)
            if (length < 0 || length > file.size - at - 8) break
            CHUNKS[String(file, at, 4, Charsets.ISO_8859_1)]?.let { blocks += Block(it, file.copyOfRange(at + 8, at + 8 + length)) }
            at += 8 + length + length % 2
        }
        return blocks
    }
}
