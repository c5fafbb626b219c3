import EdgeBundle
import EdgeOrt
import EdgePhotos
import EdgeRuntime
import EdgeZO
import TestSupport
import XCTest

/// A whole run on the embedded model, from photo files to the learned word.
final class EmbeddedRunTests: XCTestCase {
    /// `export/README.md` has the two losses: those of Python.
    func testFortyStepsLowerTheHeldOutLossAsPythonsDo() async throws {
        try XCTSkipIf(
            ProcessInfo.processInfo.environment["EDGE_ORT_LIBRARY"] == nil, "EDGE_ORT_LIBRARY names no library")
        let pocket = Golden.folder.appendingPathComponent("../../edge_sdk/pocket").standardizedFileURL
        let bundle = try ModelBundle(pocket.appendingPathComponent("bundle"))
        let files = try FileManager.default.contentsOfDirectory(
            at: pocket.appendingPathComponent("photos"), includingPropertiesForKeys: nil)
        let photos = try files.filter { $0.pathExtension == "png" }.sorted { $0.path < $1.path }.map {
            try PhotoFile.decode($0, resolution: bundle.manifest.resolution)
        }
        let personalizer = Personalizer(bundle, OrtLoader(threads: 1)), saved = Saved()
        var options = FitOptions()
        options.checkpointingSteps = 20
        options.checkpoint = { saved.add($0) }
        var steps: [Step] = []
        for try await step in personalizer.fit(photos, placeholder: "<subject>", options: options) {
            steps.append(step)
        }
        XCTAssertEqual(steps.count, 40)
        XCTAssertEqual(steps.last?.forwards, 1320)
        let (initial, final) = (await personalizer.lossInitial, await personalizer.lossFinal)
        XCTAssertEqual(try XCTUnwrap(initial), 0.194, accuracy: 1e-3)
        XCTAssertEqual(try XCTUnwrap(final), 0.064, accuracy: 1e-3)

        // From the checkpoint after step 20, in another process as it were, to the same bits.
        options.resume = saved.files[0]
        let another = Personalizer(bundle, OrtLoader(threads: 1))
        var count = 0
        for try await _ in another.fit(photos, placeholder: "<subject>", options: options) { count += 1 }
        XCTAssertEqual(count, 20)
        let (first, second) = (try await personalizer.embedding(), try await another.embedding())
        XCTAssertEqual(first, second)
    }
}

private final class Saved: Sendable {
    private let lock = NSLock()
    nonisolated(unsafe) private var held: [[UInt8]] = []

    var files: [[UInt8]] { lock.withLock { held } }
    func add(_ bytes: [UInt8]) { lock.withLock { held.append(bytes) } }
}
