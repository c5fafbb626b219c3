import Foundation

/// The fourth screen: one step and one whole run, measured.
extension AppModel {
    public func showMeasuring() { if screen == .choosing, work == nil { (screen, record) = (.measuring, nil) } }

    public func leaveMeasuring() {
        guard screen == .measuring else { return }
        cancel()
        screen = .choosing
    }

    /// Measures the chosen bundle, and writes the device record.
    public func measure() {
        guard screen == .measuring, let bundle else { return }
        let shelf = shelf, engine = engine, store = store
        record = nil
        perform(.measuring, otherwise: .measuringFailed) { [self] () -> URL? in
            try await shelf.examine(shelf.folder(of: bundle.name), bundle.name)
            do {
                let bytes = try await engine.measure(shelf.folder(of: bundle.name)) { self.progress($0, of: $1) }
                return try store.save(record: bytes)
            } catch is CancellationError { return nil }
        } then: { [self] file in
            guard let file else { return }
            record = file
            say(Message(.measured, file.lastPathComponent))
        }
    }
}
