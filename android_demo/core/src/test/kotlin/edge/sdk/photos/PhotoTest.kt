package edge.sdk.photos

import edge.sdk.testing.Golden
import edge.sdk.testing.GoldenCases
import org.junit.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals

class PhotoTest {
    private val golden = GoldenCases.read("photos.json")

    private fun bytes(hex: Golden) = hex.text.chunked(2).map { it.toInt(16).toByte() }.toByteArray()

    private fun photo(case: Golden): Photo {
        val (width, height) = case["size"].ints.toList()
        return Photo(width, height, bytes(case["rgb"]))
    }

    @Test
    fun `crop and resampling are Pillow's`() = GoldenCases.each(golden["photos"]) { case ->
        val photo = photo(case)
        assertEquals(case["square"]["side"].int, photo.square().width)
        for (one in case["resized"].list) {
            assertContentEquals(bytes(one["rgb"]), photo.resized(one["side"].int).rgb, "side ${one["side"].int}")
        }
        for (one in case["squeezed"].list) {
            assertContentEquals(bytes(one["rgb"]), photo.resized(one["side"].int, centerCrop = false).rgb)
        }
    }

    @Test
    fun `orientation of the golden files`() = GoldenCases.each(golden["photos"]) { case ->
        assertEquals(case["orientation"].int, Exif.orientation(GoldenCases.bytes(case["file"].text)))
    }

    @Test
    fun `bytes to floats and back`() {
        golden["bytes_to_float"].floats.forEachIndexed { byte, value -> assertEquals(value, byteToFloat(byte.toByte())) }
        GoldenCases.each(golden["float_to_byte"]) {
            assertEquals(it["byte"].int, floatToByte(it["value"].floats[0]).toInt() and 0xff)
        }
        val photo = photo(golden["photos"].list[0])
        assertContentEquals(photo.rgb, Photo.ofPixels(photo.width, photo.height, photo.pixels()).rgb)
    }

    @Test
    fun `every orientation turns as viewers do`() {
        // A B    the stored picture, a letter a pixel
        // C D
        // E F
        val stored = Photo(2, 3, "ABCDEF".flatMap { letter -> List(3) { letter.code.toByte() } }.toByteArray())
        val upright = listOf("AB CD EF", "BA DC FE", "FE DC BA", "EF CD AB", "ACE BDF", "ECA FDB", "FDB ECA", "BDF ACE")
        upright.forEachIndexed { i, rows ->
            val turned = stored.upright(i + 1)
            val shown = turned.rgb.filterIndexed { at, _ -> at % 3 == 0 }.map { it.toInt().toChar() }.chunked(turned.width)
            assertEquals(rows, shown.joinToString(" ") { it.joinToString("") }, "orientation ${i + 1}")
        }
    }

    @Test
    fun `orientation in every container and in damaged blocks`() {
        val block = block(6)
        assertEquals(6, Exif.orientation(jpeg(0xe1, "Exif\u0000\u0000".toByteArray() + block)))
        assertEquals(6, Exif.orientation(png("eXIf", block)))
        assertEquals(6, Exif.orientation(webp("EXIF", "Exif\u0000\u0000".toByteArray() + block)))
        assertEquals(3, Exif.orientation(webp("XMP ", "<a tiff:Orientation=\"3\"/>".toByteArray())))
        assertEquals(1, Exif.orientation(png("eXIf", block(9))))
        for (length in block.indices) Exif.orientation(png("eXIf", block.copyOf(length))) // throws nothing
        val whole = jpeg(0xe1, "Exif\u0000\u0000".toByteArray() + block)
        for (length in 0..whole.size) Exif.orientation(whole.copyOf(length))
    }

    private fun block(value: Int) = "MM\u0000*".toByteArray() + byteArrayOf(0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, value.toByte(), 0, 0, 0, 0, 0, 0)

    private fun jpeg(marker: Int, content: ByteArray) = byteArrayOf(-1, 0xd8.toByte(), -1, marker.toByte(), 0, (content.size + 2).toByte()) +
        content + byteArrayOf(-1, 0xd9.toByte())

    private fun png(name: String, content: ByteArray) =
        byteArrayOf(0x89.toByte()) + "PNG\r\n\u001a\n".toByteArray() + byteArrayOf(0, 0, 0, content.size.toByte()) + name.toByteArray() + content + ByteArray(4)

    private fun webp(name: String, content: ByteArray) =
        "RIFF".toByteArray() + ByteArray(4) + "WEBP".toByteArray() + name.toByteArray() + byteArrayOf(content.size.toByte(), 0, 0, 0) + content
}
