package edge.sdk.presenter

/** The third screen: pictures before and after, the person's own, and the token. */
class ResultPresenter internal constructor(private val board: Board, private val open: (Session) -> Model) {
    /** Draws a picture of the person's own prompt. */
    fun draw(prompt: String) {
        val word = board.session.word
        if (word !in prompt) return board.say(Message(Key.PROMPT_WITHOUT_WORD, word))
        board.change { copy(prompt = prompt) }
        board.show { copy(result = result.copy(prompt = prompt)) }
        draw(listOf(PictureKind.OWN))
    }

    /** The token was saved or shared: leaving the screen loses nothing. */
    fun keep() {
        board.show { copy(result = result.copy(isKept = true)) }
        board.say(Message(Key.SAVED))
    }

    fun savingFailed(reason: String) = board.say(Message(Key.SAVING_FAILED).because(reason))

    /** Back to the first screen, with the photos; what was learned is deleted. */
    fun startAgain() {
        if (board.state.work == null) board.startAgain()
    }

    /** Shows the result, and draws what of it is not drawn yet. */
    internal fun show() {
        board.show { copy(screen = Screen.RESULT, result = saved()) }
        draw(listOf(PictureKind.BEFORE, PictureKind.AFTER).filter { board.store.picture(it) == null })
    }

    /** The result as it is on disk. */
    private fun saved() = with(board) {
        Result(
            token = store.token,
            lossBefore = session.lossBefore,
            lossAfter = session.lossAfter,
            prompt = session.prompt,
            before = store.picture(PictureKind.BEFORE),
            after = store.picture(PictureKind.AFTER),
            own = store.picture(PictureKind.OWN),
            isKept = state.result.isKept,
        )
    }

    private fun draw(kinds: List<PictureKind>) {
        if (kinds.isEmpty()) return
        val begun = board.session
        board.work(Work.Kind.DRAWING) {
            describingProblems(Key.PICTURE_FAILED) {
                open(begun).use { model ->
                    val token = board.store.token.readBytes()
                    for (kind in kinds) {
                        val prompt = if (kind == PictureKind.OWN) begun.prompt else model.prompt(begun.word)
                        val picture = model.draw(prompt, token.takeIf { kind != PictureKind.BEFORE }, begun)
                        board.store.savePicture(kind, picture)
                        board.main.execute { board.show { copy(result = saved()) } }
                    }
                }
            }
        }
    }
}
