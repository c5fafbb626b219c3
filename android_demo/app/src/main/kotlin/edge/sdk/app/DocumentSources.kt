package edge.sdk.app

import android.content.ContentResolver
import android.net.Uri
import android.provider.DocumentsContract
import android.provider.DocumentsContract.Document
import android.provider.OpenableColumns
import edge.sdk.presenter.Source
import edge.sdk.presenter.ZipSource
import java.io.IOException
import java.io.InputStream

/** The bytes of a document; whatever another app throws while it hands them out is an IOException. */
fun ContentResolver.open(uri: Uri): InputStream = asking { openInputStream(uri) }

/** A zip archive that the person chose. */
fun ContentResolver.zipSource(uri: Uri): Source = ZipSource(nameOf(uri) ?: "bundle.zip") { open(uri) }

/** A folder that the person chose in the system's file picker. */
class TreeSource(private val resolver: ContentResolver, private val tree: Uri) : Source {
    private val root = DocumentsContract.getTreeDocumentId(tree)

    override val name: String =
        resolver.nameOf(DocumentsContract.buildDocumentUriUsingTree(tree, root)) ?: root.substringAfterLast('/').substringAfterLast(':')

    override fun forEach(take: (String, InputStream) -> Unit) = visit(root, "", take)

    private fun visit(folder: String, prefix: String, take: (String, InputStream) -> Unit) {
        for ((id, name, type) in children(folder)) {
            if (type == Document.MIME_TYPE_DIR) {
                visit(id, "$prefix$name/", take)
            } else {
                resolver.open(DocumentsContract.buildDocumentUriUsingTree(tree, id)).use { take(prefix + name, it) }
            }
        }
    }

    /** Ids, names, and types; read to the end first, so that no cursor stays open while gigabytes are copied. */
    private fun children(folder: String): List<Triple<String, String, String?>> {
        val columns = arrayOf(Document.COLUMN_DOCUMENT_ID, Document.COLUMN_DISPLAY_NAME, Document.COLUMN_MIME_TYPE)
        val uri = DocumentsContract.buildChildDocumentsUriUsingTree(tree, folder)
        return resolver.asking { query(uri, columns, null, null, null) }.use { rows ->
            generateSequence { if (rows.moveToNext()) rows else null }
                .map { Triple(it.getString(0), it.getString(1), it.getString(2)) }.toList()
        }
    }
}

private fun ContentResolver.nameOf(uri: Uri): String? = try {
    asking { query(uri, arrayOf(OpenableColumns.DISPLAY_NAME), null, null, null) }
        .use { if (it.moveToFirst()) it.getString(0) else null }
} catch (_: IOException) {
    null
}

private inline fun <T : Any> ContentResolver.asking(question: ContentResolver.() -> T?): T = try {
    question() ?: throw IOException("the app that holds it does not answer")
} catch (error: RuntimeException) { // SecurityException when the right to read has ended, and what providers throw
    throw IOException("the app that holds it refuses: $error", error)
}
