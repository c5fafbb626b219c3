/// The second screen: learning, resting, going on.
extension AppModel {
    /// Rests until the person goes on.
    public func pause() {
        change { $0.isPausedByPerson = true }
        if learning.phase == .paused { setPaused(.person) } else { rest(.person) }
    }

    /// Goes on, unless the phone still needs a rest.
    public func goOn() {
        guard screen == .learning, learning.phase == .paused else { return }
        change { $0.isPausedByPerson = false }
        if let needed = reading.neededPause { setPaused(needed) } else { learn() }
    }

    /// Ends learning and keeps what was learned so far; before the first step it leads back to the first screen.
    public func finish() {
        guard screen == .learning else { return }
        if learning.phase != .paused {
            stop.value = .finish
            (learning.phase, learning.pause) = (.stopping, nil)
        } else if store.checkpoint() == nil {
            beginAgain()
        } else {
            learn(.finish)
        }
    }

    /// Deletes what was learned so far; photos stay.
    public func discard() { if screen == .learning, learning.phase == .paused { beginAgain() } }

    /// Begins or goes on from the last checkpoint.
    func learn(_ how: Stretch.Stop? = nil) {
        let begun = session
        stop = Shared(how)
        smoothed = Smoothed()
        (learning.phase, learning.pause, learning.secondsLeft, message) = (.preparing, nil, nil, nil)
        let stretch = Stretch(
            open: { [self] in try await open(begun) }, store: store, decoder: decoder, session: begun, stop: stop)
        job = Task { for await event in stretch.events() { happened(event) } }
    }

    func rest(_ pause: Pause) {
        stop.value = .pause
        (learning.phase, learning.pause) = (.stopping, pause)
    }

    func setPaused(_ pause: Pause) { (learning.phase, learning.pause, learning.secondsLeft) = (.paused, pause, nil) }

    private func happened(_ event: Event) {
        switch event {
        case .stepped(let progress, let before): stepped(progress, before)
        case .paused: paused()
        case .learned(let loss):
            change { ($0.stage, $0.lossBefore, $0.lossAfter) = (.result, loss.before ?? $0.lossBefore, loss.after) }
            showResult()
        case .failed(let said):
            if said.key == .wordRefused { beginAgain() } else { setPaused(.failed) }
            say(said)
        }
    }

    private func stepped(_ now: StepProgress, _ before: Double?) {
        smoothed.add(now.loss)
        change { ($0.step, $0.steps, $0.lossBefore) = (now.step, now.steps, before ?? $0.lossBefore) }
        if learning.phase == .preparing { learning.phase = .running }
        (learning.step, learning.steps, learning.loss) = (now.step, now.steps, smoothed.value)
        (learning.heldOutBefore, learning.secondsLeft) = (session.lossBefore, now.secondsLeft)
    }

    private func paused() {
        if stop.value == .finish { return beginAgain() }  // before the first step
        save()
        setPaused(learning.pause ?? .interrupted)
        // All may be well again meanwhile.
        if learning.pause == .interrupted, isVisible { goOn() } else { read(reading) }
    }
}
