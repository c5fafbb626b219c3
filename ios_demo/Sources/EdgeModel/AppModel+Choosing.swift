import Foundation

/// The first screen: a bundle, photos, a word.
extension AppModel {
    /// Whether learning can begin.
    public var canStart: Bool {
        screen == .choosing && work == nil && !photos.isEmpty && !bare(word).isEmpty
            && bundle?.initializers.contains(initializer) == true
    }

    public func choose(_ info: BundleInfo) { choose(info, of: bundles) }

    /// Copies a bundle into the app's folder, checks it, and chooses it.
    public func takeBundle(_ source: URL) {
        let shelf = shelf
        perform(.copyingBundle, otherwise: .sourceUnreadable) { [self] in
            try await shelf.take(source) { progress($0) }
        } then: { [self] taken in
            guard let taken else { return }
            choose(taken, of: shelf.list())
            say(Message(.bundleReady, taken.name))
        }
    }

    public func removeBundle(_ name: String) {
        shelf.remove(name)
        refreshBundles()
    }

    /// Looks which bundles there are; chooses the first if the chosen one is gone.
    public func refreshBundles() {
        let found = shelf.list()
        choose(found.first { $0.name == session.bundle } ?? found.first, of: found)
    }

    /// Copies photos, because the right to read them ends with the process, and checks that each can be decoded. Unreadable
    /// ones are left out and counted.
    /// - Parameter photos: nil for one that the picker could not give.
    public func addPhotos(_ photos: [Data?]) {
        let room = Self.mostPhotos - session.photos.count, side = bundle?.resolution ?? 64  // no model is smaller
        let offered = Array(photos.prefix(room)), store = store, decoder = decoder
        perform(.readingPhotos, otherwise: .photosUnreadable) {
            try offered.compactMap { try $0.flatMap { try store.add($0, readableBy: decoder, side: side) } }
        } then: { [self] kept in
            change { $0.photos += kept }
            if kept.count < offered.count {
                say(Message(.photosUnreadable, "\(offered.count - kept.count)", "\(offered.count)"))
            } else if photos.count > room {
                say(Message(.photosTooMany, "\(Self.mostPhotos)"))
            }
        }
    }

    public func removePhoto(_ index: Int) {
        guard photos.indices.contains(index) else { return }
        change { $0.photos.remove(at: index) }
        store.keepPhotos(session.photos)
    }

    /// The new word as the person types it; saved when the app leaves the screen.
    public func setWord(_ word: String) { note { $0.word = word } }

    /// The word that the new one starts from.
    public func setInitializer(_ word: String) { change { $0.initializer = word } }

    /// Begins to learn.
    public func start() {
        guard canStart, let bundle else { return }
        store.dropResult()
        let seed = makeSeed()
        change {
            let (chosen, photos, word, initializer) = ($0.bundle, $0.photos, "<\(bare($0.word))>", $0.initializer)
            $0 = Session()
            ($0.stage, $0.bundle, $0.digest, $0.photos) = (.learning, chosen, bundle.digest, photos)
            ($0.word, $0.initializer, $0.seed) = (word, initializer, seed)
        }
        (screen, learning, outcome) = (.learning, Learning(), Outcome())
        if let needed = reading.neededPause { setPaused(needed) } else { learn() }
    }

    private func choose(_ info: BundleInfo?, of found: [BundleInfo]) {
        let words = info?.initializers ?? []
        let word = words.contains(session.initializer) ? session.initializer : info?.initializer ?? words.first ?? ""
        (bundles, bundle) = (found, info)
        guard session.bundle != info?.name || session.initializer != word else { return }
        change { ($0.bundle, $0.initializer) = (info?.name, word) }
    }
}
