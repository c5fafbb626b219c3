package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.oneLine
import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.file.Files
import java.security.MessageDigest

/**
 * A checked bundle: everything that a reader must refuse is refused before any runtime opens a file. The twin of
 * edge_sdk/runtime/onnx/bundle.py.
 *
 * @property folder as it was given.
 * @property sha256 of the manifest, and so of every file.
 * @property leftovers paths of what lies in the folder and is no part of the bundle, such as `.DS_Store`.
 */
class Bundle private constructor(val folder: File, val manifest: Manifest, val sha256: String) {
    var leftovers: List<String> = emptyList()
        private set

    val isPocket get() = manifest.family == "pocket"
    val isXl get() = manifest.family == "stable-diffusion-xl"

    /** Numbers of the parts of a vector, one a text encoder. */
    val widths = manifest.embedding.map { it.width }.toIntArray()

    /** What each coordinate of the optimizer's variable is multiplied with, (D,). */
    val scale = FloatArray(widths.sum()).also { all ->
        var at = 0
        for (part in manifest.embedding) repeat(part.width) { all[at++] = part.scale.toFloat() }
    }

    /** The file of a graph; throws [EdgeSdkException] if the bundle has none of that name. */
    fun graph(name: String): File {
        val entry = manifest.graphs[name]
            ?: throw EdgeSdkException("$folder has no graph $name; it has ${manifest.graphs.keys.sorted().joinToString(", ")}; $AGAIN")
        return File(folder, entry.file)
    }

    /** Files with the weights of graphs. */
    val weightFiles get() = manifest.files.filterValues { it.role == "weights" }.keys.map { File(folder, it) }

    /** Row [word] of an encoder's embedding table, (width,); the table itself stays in its file. */
    fun vector(encoder: Int, word: Int): FloatArray {
        val part = manifest.embedding[encoder]
        val row = ByteArray(part.width * part.bytesOfNumber)
        reading(part.file) { RandomAccessFile(File(folder, part.file), "r").use { file ->
            file.seek(part.offset + word.toLong() * row.size)
            file.readFully(row)
        } }
        val numbers = ByteBuffer.wrap(row).order(ByteOrder.LITTLE_ENDIAN)
        return FloatArray(part.width) { if (part.dtype == "float16") halfToFloat(numbers.short) else numbers.float }
    }

    /** The directions that a run searches, in the optimizer's variable, D numbers each: [count] or all there are. */
    fun principalDirections(count: Int): List<FloatArray> {
        val bytes = reading(manifest.principalFile) { File(folder, manifest.principalFile).readBytes() }
        val numbers = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        return List(minOf(count, manifest.principalCount)) { FloatArray(widths.sum()).also { row -> numbers.get(row) } }
    }

    /** Of the vocabulary's variance, the share along the first [count] directions; null in older bundles. */
    fun varianceShare(count: Int): Double? = manifest.varianceShare?.let { all ->
        val squares = principalDirections(manifest.principalCount).map { row -> row.sumOf { it.toDouble() * it } }
        all * squares.take(count).sum() / squares.sum()
    }

    private fun <T> reading(name: String, read: () -> T): T = try {
        read()
    } catch (error: IOException) {
        throw EdgeSdkException("${File(folder, name)} cannot be read: ${oneLine(error)}; copy the bundle again", error)
    }

    /** Every path is relative and below the folder, and whatever is opened by name is a listed file. */
    private fun checkPaths() {
        val files = manifest.files.keys
        val graphs = manifest.graphs.values.map { it.file }.toSet()
        val data = manifest.embedding.map { it.file }.toSet() + manifest.principalFile
        val folders = manifest.tokens.map { it.folder }.toSet()
        for (path in (files + graphs + data + folders).sorted()) {
            val bad = path.any { it == '\\' || it == ':' || it == '\u0000' } || path.split('/').any { it in listOf("", ".", "..") }
            if (bad || path == MANIFEST) {
                throw EdgeSdkException(
                    "$manifestFile names the path ${ascii(path)}; paths are relative, below the folder, with / between names; $AGAIN",
                )
            }
        }
        val ofFolders = files.map { it.substringBeforeLast('/', "") }.toSet()
        val packages = graphs.filter { graph -> files.any { it.startsWith("$graph/") } }.toSet() // of Core ML
        val missing = (graphs - packages - files) + (data - files) + (folders - ofFolders)
        missing.minOrNull()?.let {
            throw EdgeSdkException("$manifestFile uses ${ascii(it)} but does not list it among its files; $AGAIN")
        }
        for (part in manifest.embedding) {
            val end = part.offset + part.bytesOfNumber.toLong() * part.vocabSize * part.width
            if (end > manifest.files.getValue(part.file).bytes)
                throw EdgeSdkException("$manifestFile: a table goes beyond the end of ${part.file}; $AGAIN")
        }
        val held = manifest.files.getValue(manifest.principalFile).bytes
        val wanted = 4L * manifest.principalCount * widths.sum()
        if (held != wanted) {
            throw EdgeSdkException(
                "$manifestFile: ${manifest.principalFile} has $held bytes and ${manifest.principalCount} directions of " +
                    "${widths.sum()} numbers take $wanted; $AGAIN",
            )
        }
    }

    private fun checkFiles() {
        for ((name, entry) in manifest.files) {
            val file = File(folder, name)
            checkKind(file, name)
            if (file.length() != entry.bytes) {
                throw EdgeSdkException(
                    "$file has ${file.length()} bytes and $MANIFEST says ${entry.bytes}; copy the bundle again",
                )
            }
        }
        for ((name, entry) in manifest.files) {
            if (reading(name) { sha256Of(File(folder, name)) } != entry.sha256) {
                throw EdgeSdkException(
                    "${File(folder, name)} is not the file that $MANIFEST lists (its sha256 differs); copy the bundle again",
                )
            }
        }
    }

    private fun checkKind(file: File, name: String) {
        var parent = name.substringBeforeLast('/', "")
        while (parent.isNotEmpty()) {
            if (isLink(File(folder, parent)))
                throw EdgeSdkException("${File(folder, parent)} is a link to a folder; copy the bundle again as plain files")
            parent = parent.substringBeforeLast('/', "")
        }
        if (!file.exists()) {
            val what = if (isLink(file)) "leads nowhere" else "is missing"
            throw EdgeSdkException("$file $what, which $MANIFEST lists; copy the bundle again")
        }
        if (!file.isFile) throw EdgeSdkException("$file is not a file; a bundle holds files and folders only, copy it again")
    }

    /** Paths of what the manifest does not list and nobody opens; refuses what could be taken for a part of the bundle. */
    private fun unlisted(place: String = ""): List<String> = File(folder, place).listFiles().orEmpty().flatMap { file ->
        val where = if (place.isEmpty()) file.name else "$place/${file.name}"
        val isFolder = file.isDirectory && !isLink(file)
        when {
            where == MANIFEST || where in manifest.files -> emptyList()
            isLeftover(file.name) -> listOf(where)
            isFolder -> unlisted(where)
            !file.isFile -> {
                val kind = if (file.isDirectory) "a link to a folder" else "not a file"
                throw EdgeSdkException("$file is $kind; a bundle holds files and folders only, copy it again")
            }
            DATA.any { file.name.endsWith(it) } || ".mlpackage/" in where || manifest.tokens.any { it.folder == place } ->
                throw EdgeSdkException("$file is not listed in $MANIFEST; remove it, or $AGAIN")
            else -> listOf(where)
        }
    }

    private val manifestFile get() = File(folder, MANIFEST)

    companion object {
        const val MANIFEST = "manifest.json"
        private val DATA = listOf(".onnx", ".bin", ".f32", ".mlmodel", ".mlpackage") // suffixes of what a bundle is made of

        /** What Explorer, unpackers and indexers add to a folder; what others add, Finder and git first, begins with a dot. */
        private val LEFTOVERS =
            setOf("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "__pycache__", "@eadir", "lost+found")

        internal fun isLeftover(name: String) = name.startsWith(".") || name.lowercase() in LEFTOVERS

        /**
         * Reads the manifest and checks every file: present, listed, of the size and hash that it says.
         *
         * A file may be a link to a file; a folder may not be a link.
         *
         * @throws EdgeSdkException one line naming the entry or the file.
         */
        fun open(folder: File): Bundle {
            val file = File(folder, MANIFEST)
            val bytes = try {
                readBytes(file, Json.MOST_BYTES)
            } catch (error: IOException) {
                throw EdgeSdkException(
                    "$file cannot be read: ${oneLine(error, 160)}; give the folder that edge-sdk export has written", error,
                )
            }
            val value = try {
                Json.parse(bytes, infinity = true) // the table of entries names the one that is not finite
            } catch (error: IllegalArgumentException) {
                throw EdgeSdkException("$file cannot be read as JSON (${oneLine(error, 160)}); $AGAIN", error)
            }
            val digest = MessageDigest.getInstance("SHA-256").digest(bytes)
            val bundle = Bundle(folder, Manifest(value, file.path), hexOf(digest))
            bundle.checkPaths()
            bundle.checkFiles()
            bundle.leftovers = bundle.unlisted().sorted()
            return bundle
        }
    }
}

private fun isLink(file: File) = Files.isSymbolicLink(file.toPath())

/** Bytes as hexadecimal digits. */
internal fun hexOf(bytes: ByteArray): String =
    bytes.joinToString("") { (it.toInt() and 0xff).toString(16).padStart(2, '0') }

private fun sha256Of(file: File): String {
    val digest = MessageDigest.getInstance("SHA-256")
    file.inputStream().use { stream ->
        val buffer = ByteArray(1 shl 16)
        while (true) {
            val count = stream.read(buffer)
            if (count < 0) break
            digest.update(buffer, 0, count)
        }
    }
    return hexOf(digest.digest())
}

/** A float16's bits as a number. */
internal fun halfToFloat(bits: Short): Float {
    val sign = if (bits < 0) -1f else 1f
    val exponent = (bits.toInt() shr 10) and 31
    val fraction = bits.toInt() and 1023
    return sign * when (exponent) {
        0 -> fraction / 16_777_216f // 2^24
        31 -> if (fraction == 0) Float.POSITIVE_INFINITY else Float.NaN
        else -> Float.fromBits(((exponent + 112) shl 23) or (fraction shl 13))
    }
}
