import Foundation

/// The third screen: pictures before and after, the person's own, and the token.
extension AppModel {
    /// Draws a picture of the person's own prompt.
    public func draw(_ prompt: String) {
        guard prompt.contains(session.word) else { return say(Message(.promptWithoutWord, session.word)) }
        guard work == nil else { return }
        change { $0.prompt = prompt }
        outcome.prompt = prompt
        draw([.own])
    }

    /// The token was saved or shared: leaving the screen loses nothing.
    public func keep() {
        outcome.isKept = true
        say(Message(.saved))
    }

    public func savingFailed(_ reason: String) { say(Message(.savingFailed, detail: reason)) }

    /// Back to the first screen, with the photos; what was learned is deleted.
    public func startAgain() { if screen == .result, work == nil { beginAgain() } }

    /// Shows the result, and draws what of it is not drawn yet.
    func showResult() {
        screen = .result
        readOutcome()
        draw([.before, .after].filter { store.drawing($0) == nil })
    }

    /// The result as it is on disk.
    private func readOutcome() {
        outcome = Outcome(
            token: store.token, lossBefore: session.lossBefore, lossAfter: session.lossAfter, prompt: session.prompt,
            before: store.drawing(.before), after: store.drawing(.after), own: store.drawing(.own),
            isKept: outcome.isKept)
    }

    private func draw(_ kinds: [DrawingKind]) {
        guard !kinds.isEmpty else { return }
        let begun = session, store = store
        perform(.drawing, otherwise: .pictureFailed) { [self] in
            let model = try await open(begun)
            let token = Array(try Data(contentsOf: store.token))
            for (i, kind) in kinds.enumerated() {
                let prompt = kind == .own ? begun.prompt : model.prompt(begun.word)
                try store.save(await model.draw(prompt, token: kind == .before ? nil : token, session: begun), as: kind)
                _ = progress(i + 1)
            }
        } then: { [self] in
            readOutcome()
        }
    }
}
