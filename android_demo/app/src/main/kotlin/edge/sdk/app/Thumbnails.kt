package edge.sdk.app

import android.app.Activity
import android.graphics.Bitmap
import android.util.LruCache
import android.widget.ImageView
import edge.sdk.photos.Photo
import edge.sdk.presenter.UnreadablePhoto
import java.io.File
import java.util.concurrent.Executors

/** Small pictures of photos, decoded one after another off the main thread. */
class Thumbnails(private val activity: Activity) {
    /** Shows a photo's square when it is decoded, unless the view shows another one by then. */
    fun load(file: File, side: Int, view: ImageView) {
        view.tag = file
        cache.get(file.path)?.let { return view.setImageBitmap(it) }
        worker.execute {
            val bitmap = try {
                bitmapOf(decoder.decode(file, side).resized(side))
            } catch (_: UnreadablePhoto) {
                return@execute // it was removed meanwhile
            }
            cache.put(file.path, bitmap)
            activity.runOnUiThread { if (view.tag == file) view.setImageBitmap(bitmap) }
        }
    }

    private companion object {
        val decoder = ImagePhotoDecoder()
        val worker = Executors.newSingleThreadExecutor { task -> Thread(task, "thumbnails") }
        val cache = LruCache<String, Bitmap>(24) // more than the most photos of a run
    }
}

/** A bitmap of a photo or of a generated picture. */
fun bitmapOf(photo: Photo): Bitmap {
    val pixels = IntArray(photo.width * photo.height) { i ->
        fun channel(c: Int) = photo.rgb[3 * i + c].toInt() and 0xff
        (0xff shl 24) or (channel(0) shl 16) or (channel(1) shl 8) or channel(2)
    }
    return Bitmap.createBitmap(pixels, photo.width, photo.height, Bitmap.Config.ARGB_8888)
}
