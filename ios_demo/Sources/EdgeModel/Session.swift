import EdgeSystem
import Foundation

/// Where the app is.
public enum Stage: String, Codable, Sendable { case choosing, learning, result }

/// All that must outlive the process beside the files of ``SessionStore``.
public struct Session: Codable, Equatable, Sendable {
    public var stage = Stage.choosing
    /// Name of the chosen bundle, nil if none is.
    public var bundle: String?
    /// Digest of the bundle that a run has begun with.
    public var digest: String?
    /// Names of files, in the order of choosing.
    public var photos: [String] = []
    public var word = ""
    public var initializer = ""
    /// Of the run, and of the pictures.
    public var seed: UInt64 = 0
    public var step = 0
    public var steps = 0
    public var lossBefore: Double?
    public var lossAfter: Double?
    /// Learning does not go on by itself.
    public var isPausedByPerson = false
    public var prompt = ""
}

/// The pictures of the last screen.
public enum DrawingKind: String, CaseIterable, Sendable { case before, after, own }

/// The session on disk. Every file is written whole or not at all, so that the process may end at any instruction.
public struct SessionStore: Sendable {
    /// Of the app's own, not in any backup.
    let folder: URL

    private var file: URL { folder.appendingPathComponent("session.json") }
    private var photos: URL { folder.appendingPathComponent("photos") }
    private var state: URL { folder.appendingPathComponent("state.safetensors") }

    /// The learned token.
    var token: URL { folder.appendingPathComponent("learned_embeds.safetensors") }

    public init(_ folder: URL) {
        self.folder = folder
        WholeFile.removeStaged(in: folder)
        WholeFile.removeStaged(in: photos)
    }

    /// What was saved last; a new session if there is nothing, or nothing readable.
    func load() -> Session {
        guard let data = try? Data(contentsOf: file), var session = try? JSONDecoder().decode(Session.self, from: data)
        else { return Session() }
        session.photos.removeAll { !exists(photo($0)) }
        // A result without its token is none; the photos are there to begin again.
        if session.stage == .result, !exists(token) { session.stage = .choosing }
        return session
    }

    /// - Throws: `WritingError`; what was saved before is still there.
    func save(_ session: Session) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        try WholeFile.write(encoder.encode(session), to: file)
    }

    func photo(_ name: String) -> URL { photos.appendingPathComponent(name) }

    /// Keeps a photo as it is, byte for byte; gives its name, or nil if it is unreadable.
    func add(_ photo: Data, readableBy decoder: any PhotoDecoder, side: Int) throws -> String? {
        let name = "photo-\(UUID().uuidString)", file = self.photo(name)
        try WholeFile.write(photo, to: file)
        do { _ = try decoder.decode(file, side: side) } catch is UnreadablePhoto {
            remove(file)
            return nil
        }
        return name
    }

    /// The whole state of a run after its last step; nil before the first.
    func checkpoint() -> [UInt8]? { (try? Data(contentsOf: state)).map(Array.init) }
    func save(checkpoint: [UInt8]) throws { try WholeFile.write(checkpoint, to: state) }
    func save(token: [UInt8]) throws { try WholeFile.write(token, to: self.token) }

    /// A drawn picture, nil if there is none.
    func drawing(_ kind: DrawingKind) -> Drawing? {
        (try? Data(contentsOf: file(of: kind))).flatMap { Drawing(Array($0)) }
    }
    func save(_ drawing: Drawing, as kind: DrawingKind) throws {
        try WholeFile.write(drawing.bytes, to: file(of: kind))
    }

    func save(record: [UInt8]) throws -> URL {
        let file = folder.appendingPathComponent("device.json")
        try WholeFile.write(record, to: file)
        return file
    }

    /// Deletes what a run has made; photos stay.
    func dropResult() { for file in DrawingKind.allCases.map(file(of:)) + [token, state] { remove(file) } }

    /// Deletes photos that no session names.
    func keepPhotos(_ names: [String]) {
        for name in (try? FileManager.default.contentsOfDirectory(atPath: photos.path)) ?? []
        where !names.contains(name) {
            remove(photo(name))
        }
    }

    func remove(_ file: URL) { try? FileManager.default.removeItem(at: file) }
    private func exists(_ file: URL) -> Bool { FileManager.default.fileExists(atPath: file.path) }
    private func file(of kind: DrawingKind) -> URL { folder.appendingPathComponent(kind.rawValue + ".ppm") }
}
