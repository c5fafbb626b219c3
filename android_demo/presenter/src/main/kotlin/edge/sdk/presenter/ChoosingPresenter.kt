package edge.sdk.presenter

import java.io.IOException
import java.io.InputStream

/** The first screen: a bundle, photos, a word. */
class ChoosingPresenter internal constructor(
    private val board: Board,
    private val shelf: Shelf,
    private val pushed: () -> List<Source>,
    private val decoder: PhotoDecoder,
    private val makeSeed: () -> Long,
    private val learn: () -> Unit,
) {
    /** Bundles that a computer has put beside the app; [takeBundle] copies one in. */
    fun sources(): List<Source> = pushed()

    fun chooseBundle(name: String) = choose(board.state.bundles.firstOrNull { it.name == name })

    /**
     * Copies a bundle into the app's folder, checks it, and chooses it.
     *
     * @param source is called by the worker: to ask another app for a name takes time
     */
    fun takeBundle(source: () -> Source) = board.work(Work.Kind.COPYING_BUNDLE) {
        val taken = shelf.take(source(), board::progress) { board.isCancelled } ?: return@work
        board.main.execute {
            choose(taken)
            board.say(Message(Key.BUNDLE_READY, taken.name))
        }
    }

    fun removeBundle(name: String) {
        shelf.remove(name)
        refresh()
    }

    /** Looks which bundles there are; chooses the first if the chosen one is gone. */
    fun refresh() {
        val bundles = shelf.list()
        choose(bundles.firstOrNull { it.name == board.session.bundle } ?: bundles.firstOrNull(), bundles)
    }

    /**
     * Copies photos, because the right to read them ends with the process, and checks that each can be decoded.
     * Unreadable ones are left out and counted.
     */
    fun addPhotos(photos: List<() -> InputStream>) {
        val room = MAX_PHOTOS - board.session.photos.size
        val side = board.state.bundle?.resolution ?: MIN_SIDE
        board.work(Work.Kind.READING_PHOTOS) {
            val offered = photos.take(room)
            val kept = offered.mapNotNull { keep(it, side) }
            board.main.execute {
                board.change { copy(photos = this.photos + kept) }
                val unreadable = offered.size - kept.size
                if (unreadable > 0) board.say(Message(Key.PHOTOS_UNREADABLE, unreadable, offered.size))
                if (photos.size > room) board.say(Message(Key.PHOTOS_TOO_MANY, MAX_PHOTOS))
            }
        }
    }

    fun removePhoto(index: Int) {
        board.change { copy(photos = photos.filterIndexed { i, _ -> i != index }) }
        board.store.keepPhotos(board.session.photos)
    }

    /** The new word as the person types it; saved when the app leaves the screen. */
    fun setWord(word: String) = board.note { copy(word = word) }

    /** The word that the new one starts from. */
    fun setInitializer(word: String) = board.change { copy(initializer = word) }

    /** Begins to learn. */
    fun start() {
        if (!board.state.canStart) return
        board.store.dropResult()
        board.change {
            copy(
                stage = Stage.LEARNING,
                word = "<${word.trim().removeSurrounding("<", ">")}>",
                digest = board.state.bundle?.digest,
                seed = makeSeed(),
                step = 0,
                steps = 0,
                lossBefore = null,
                lossAfter = null,
                isPausedByPerson = false,
                attempts = 0,
            )
        }
        board.show { copy(screen = Screen.LEARNING, learning = Learning(), result = Result()) }
        learn()
    }

    private fun choose(bundle: BundleInfo?, bundles: List<BundleInfo> = shelf.list()) {
        val words = bundle?.initializers.orEmpty()
        val word = board.session.initializer.takeIf { it in words } ?: bundle?.initializer ?: words.firstOrNull().orEmpty()
        board.show { copy(bundles = bundles, bundle = bundle) }
        if (board.session.bundle != bundle?.name || board.session.initializer != word) {
            board.change { copy(bundle = bundle?.name, initializer = word) }
        }
    }

    /** The name under which a photo is kept; null if it is unreadable. */
    private fun keep(open: () -> InputStream, side: Int): String? {
        val name = try {
            open().use { stream -> board.store.addPhoto(stream) }
        } catch (error: IOException) {
            val free = board.store.free()
            if (free < SMALLEST_FREE) throw Problem(Message(Key.NO_SPACE, free / 1_000_000).because(error.message), error)
            return null // the app that holds it cannot hand it out
        }
        return try {
            decoder.decode(board.store.photoFile(name), side)
            name
        } catch (_: UnreadablePhoto) {
            board.store.photoFile(name).delete()
            null
        }
    }

    companion object {
        const val MAX_PHOTOS = 20
        private const val SMALLEST_FREE = 50_000_000L // bytes; a photo is smaller
        private const val MIN_SIDE = 64 // no model is smaller
    }
}
