import EdgePhotos
import EdgeSystem
import EdgeZO
import Foundation
import XCTest

@testable import EdgeModel

/// A small engine of our own: a run has `steps` steps, the state is the number of steps done, and the token tells both.
final class FakeEngine: Engine, @unchecked Sendable {
    let formats: Set<String> = ["onnx"]
    let steps = 5
    /// Steps that learning may take; it waits for more.
    let allowed = Shared(Int.max)
    /// Runs of a step fail with this.
    let failsAt = Shared<Int?>(nil)
    let refusesWord = Shared(false)
    let opened = Shared(0)
    let drawn = Shared<[String]>([])
    let failsDrawing = Shared(false)

    func open(_ folder: URL) throws -> any OpenedBundle {
        opened.value += 1
        let manifest = try Json.parse(Array(try Data(contentsOf: folder.appendingPathComponent("manifest.json"))))
        if manifest["refuse"] != nil { throw EdgeSdkError("manifest.json has refuse; export the bundle again") }
        return FakeBundle(engine: self)
    }

    func measure(_ folder: URL, report: @escaping @Sendable (Int, Int) -> Bool) throws -> [UInt8] {
        for step in 1...steps where !report(step, steps) { throw CancellationError() }
        return Array(#"{"schema_version": 1}"#.utf8)
    }
}

private final class FakeBundle: OpenedBundle, @unchecked Sendable {
    let engine: FakeEngine
    let resolution = 8
    private var done = 0
    private var taught = 0

    init(engine: FakeEngine) { self.engine = engine }

    func prompt(_ word: String) -> String { "a photo of \(word)" }
    var heldOut: HeldOut { HeldOut(before: 0.2, after: done == engine.steps ? 0.1 : nil) }
    func token() -> [UInt8] { Array("\(taught) of \(done)".utf8) }

    func learn(_ task: LearningTask, report: (StepProgress, HeldOut) -> Bool) throws {
        if engine.refusesWord.value {
            throw EdgeSdkError("\(task.word) is already a word of the model; choose another one")
        }
        if let resume = task.resume {
            let state = String(decoding: resume, as: UTF8.self).split(separator: " ").compactMap { Int($0) }
            guard state.count == 2 else { throw EdgeSdkError("the state is damaged; begin again") }
            (done, taught) = (state[0], state[1])
        }
        while done < engine.steps {
            while engine.allowed.value <= done { usleep(500) }
            if engine.failsAt.value == done + 1 { throw EdgeSdkError("zo_loss failed at step \(done + 1)") }
            done += 1
            taught = taught &* 31 &+ done &* task.photos.count &+ Int(task.seed)
            try task.checkpoint(Array("\(done) \(taught)".utf8))
            let step = StepProgress(step: done, steps: engine.steps, loss: 1 / Double(done), secondsLeft: nil)
            if !report(step, heldOut) { return }
        }
    }

    func draw(_ prompt: String, token: [UInt8]?, session: Session) throws -> Drawing {
        if engine.failsDrawing.value { throw EdgeSdkError("unet failed") }
        engine.drawn.value.append(prompt)
        return Drawing(side: 1, rgb: [UInt8(token?.count ?? 0), 0, 0])
    }
}

struct FakeDecoder: PhotoDecoder {
    func decode(_ file: URL, side: Int) throws -> Photo {
        guard let data = try? Data(contentsOf: file), data.starts(with: Data("photo".utf8)) else {
            throw UnreadablePhoto("\(file.lastPathComponent) is no photo")
        }
        return Photo(width: 8, height: 8, rgb: Array(repeating: 0, count: 192))
    }
}

/// A folder of a test's own, and models on it.
@MainActor
final class Bench {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("edge-model-\(UUID().uuidString)")
    let engine = FakeEngine()
    let free = Shared(Int64.max / 2)
    var lines: [String] { logged.value }
    private let logged = Shared<[String]>([])

    var session: URL { folder.appendingPathComponent("session") }
    var shelf: URL { folder.appendingPathComponent("bundles") }

    deinit { try? FileManager.default.removeItem(at: folder) }

    /// A model as the app makes it when its process begins.
    func model() -> AppModel {
        let free = free, logged = logged
        return AppModel(
            shelf: Shelf(shelf, engine: engine, free: { free.value }), store: SessionStore(session), engine: engine,
            decoder: FakeDecoder(), makeSeed: { 7 }, log: { logged.value.append($0) })
    }

    /// A folder that can be taken for a bundle.
    func bundle(_ name: String = "tiny", edit: (String) -> String = { $0 }) throws -> URL {
        let source = folder.appendingPathComponent("sources").appendingPathComponent(name)
        try write("123", to: source.appendingPathComponent("weights.bin"))
        let manifest = """
            {"schema_version": 3, "format": "onnx", "model": {"name": "tiny"}, "weights": "int8", "resolution": 8,
             "initializer_token": "person", "initializers": {"person": [5], "dog": [6]},
             "files": {"weights.bin": {"role": "weights", "bytes": 3, "sha256": ""}}}
            """
        try write(edit(manifest), to: source.appendingPathComponent("manifest.json"))
        return source
    }

    func write(_ text: String, to file: URL) throws {
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: file)
    }

    /// A model with a bundle, photos and a word.
    func ready(photos: Int = 2) async throws -> AppModel {
        let model = model()
        model.appear()
        model.takeBundle(try bundle())
        await model.settle()
        model.addPhotos((0..<photos).map { Data("photo \($0)".utf8) })
        await model.settle()
        model.setWord("mug")
        return model
    }

    /// What lies in a folder, hidden files too.
    func names(_ folder: URL) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
    }
}

/// Waits until something holds.
@MainActor
func until(_ what: String, file: StaticString = #filePath, line: UInt = #line, _ holds: () -> Bool) async {
    for _ in 0..<4000 {
        if holds() { return }
        try? await Task.sleep(nanoseconds: 1_000_000)
    }
    XCTFail("never: \(what)", file: file, line: line)
}
