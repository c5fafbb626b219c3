package edge.sdk.cli

import edge.sdk.EdgeSdkException
import edge.sdk.oneLine
import edge.sdk.photos.Photo
import java.io.File
import java.io.IOException

/**
 * The photos of a folder (not of its subfolders), or one photo, in the order of names; the twin of edge_sdk/images.py.
 *
 * @property photos already of the model's size
 * @property skipped names and reasons, for messages only
 */
internal class PhotoFolder private constructor(val photos: List<Photo>, val skipped: List<Pair<String, String>>) {
    /** [skipped] in lines for the user: one a file, or one with the count where many have the same reason. */
    fun notices(): List<String> = skipped.groupBy({ it.second }, { it.first }).flatMap { (why, names) ->
        if (names.size > MAX_NAMED || (names.size > 1 && why.startsWith("there are more than")))
            listOf("skipped ${names.size} files (${names.first()} to ${names.last()}): $why")
        else names.map { "skipped $it: $why" }
    }

    companion object {
        private const val MAX_BYTES = 256L shl 20
        private const val MAX_PHOTOS = 100
        private const val MAX_NAMED = 10
        private val LEFTOVERS = setOf(
            "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "__pycache__", "@eadir", "lost+found",
            "\$recycle.bin", "license",
        )
        private val SUFFIXES = setOf("aae", "csv", "ini", "json", "jsonl", "md", "parquet", "thm", "xmp", "yaml", "yml")

        /**
         * @param side of the square that each photo becomes
         * @throws EdgeSdkException the place does not exist or holds no usable photo
         */
        fun read(root: File, side: Int, centerCrop: Boolean): PhotoFolder {
            val files = if (root.isFile) listOf(root) else entriesOf(root)
            val photos = mutableListOf<Photo>()
            val skipped = mutableListOf<Pair<String, String>>()
            for (file in files.filter { it.extension.lowercase() != "txt" }) {
                try {
                    if (photos.size == MAX_PHOTOS)
                        throw UnusablePictureException("there are more than $MAX_PHOTOS photos")
                    photos += read(file, side).resized(side, centerCrop)
                } catch (error: UnusablePictureException) {
                    val name = file.name.map { if (it.isISOControl()) '?' else it }.joinToString("")
                    skipped += name to if (isLeftover(file)) "not a photo" else error.message!!
                }
            }
            if (photos.isEmpty()) {
                val why = skipped.firstOrNull()?.let { "; ${it.first}: ${it.second}" }.orEmpty()
                throw EdgeSdkException(
                    "train_data_dir $root holds no usable photo (${skipped.size} skipped$why); give PNG or JPEG",
                )
            }
            return PhotoFolder(photos, skipped)
        }

        private fun read(file: File, side: Int): Photo {
            if (file.isDirectory) throw UnusablePictureException("a folder; subfolders are not read")
            if (!file.isFile) throw UnusablePictureException("cannot be opened (not a file)")
            if (file.length() > MAX_BYTES) throw UnusablePictureException("larger than ${MAX_BYTES shr 20} MB")
            val bytes = try {
                file.readBytes()
            } catch (error: IOException) {
                throw UnusablePictureException("cannot be opened (${oneLine(error, 100)})")
            }
            return PictureFile.decode(bytes, side)
        }

        private fun entriesOf(folder: File): List<File> {
            val entries = folder.listFiles()
            if (entries == null) {
                val why = if (folder.exists()) "Permission denied" else "No such file or directory"
                throw EdgeSdkException("train_data_dir $folder cannot be read: $why; give a folder with photos")
            }
            return entries.filter { !it.name.startsWith(".") }.sortedBy { it.name }
        }

        private fun isLeftover(file: File) =
            file.name.lowercase() in LEFTOVERS || file.extension.lowercase() in SUFFIXES
    }
}
