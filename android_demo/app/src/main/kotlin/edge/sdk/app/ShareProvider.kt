package edge.sdk.app

import android.content.ContentProvider
import android.content.ContentValues
import android.content.Context
import android.content.Intent
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.OpenableColumns
import java.io.File
import java.io.FileNotFoundException

/**
 * Lends single files to the app that the person shares them with. It is not exported: nobody gets in without the right that
 * an intent grants for one file.
 */
class ShareProvider : ContentProvider() {
    override fun onCreate() = true

    override fun getType(uri: Uri) = "application/octet-stream"

    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor {
        if (mode != "r") throw FileNotFoundException("this file can only be read")
        return ParcelFileDescriptor.open(fileOf(uri), ParcelFileDescriptor.MODE_READ_ONLY)
    }

    override fun query(uri: Uri, columns: Array<String>?, where: String?, values: Array<String>?, order: String?): Cursor {
        val file = fileOf(uri)
        val all = mapOf(OpenableColumns.DISPLAY_NAME to file.name, OpenableColumns.SIZE to file.length())
        val chosen = (columns?.toList() ?: all.keys.toList()).filter { it in all }
        return MatrixCursor(chosen.toTypedArray(), 1).apply { addRow(chosen.map(all::get)) }
    }

    override fun insert(uri: Uri, values: ContentValues?): Uri? = null

    override fun update(uri: Uri, values: ContentValues?, where: String?, arguments: Array<String>?) = 0

    override fun delete(uri: Uri, where: String?, arguments: Array<String>?) = 0

    /** A file of the folder for sharing; a name with a path in it is none. */
    private fun fileOf(uri: Uri): File {
        val name = uri.lastPathSegment.orEmpty()
        val file = File(folder(context!!), name)
        if (name != file.name || !file.isFile) throw FileNotFoundException("there is no such file")
        return file
    }

    companion object {
        private fun folder(context: Context) = File(context.cacheDir, "shared")

        /** An intent that shares a copy of a file under a name. */
        fun share(context: Context, file: File, name: String): Intent {
            val copy = File(folder(context), name)
            file.copyTo(copy, overwrite = true)
            val uri = Uri.Builder().scheme("content").authority("${context.packageName}.share").appendPath(name).build()
            val send = Intent(Intent.ACTION_SEND)
                .setType("application/octet-stream")
                .putExtra(Intent.EXTRA_STREAM, uri)
                .addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
            send.clipData = android.content.ClipData.newRawUri(name, uri) // the chooser passes the right on by it
            return Intent.createChooser(send, null)
        }
    }
}
