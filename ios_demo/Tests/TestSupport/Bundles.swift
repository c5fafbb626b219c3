import Foundation
import XCTest

/// A folder that is gone when the test is over.
public func temporaryFolder(_ test: XCTestCase) throws -> URL {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("edge-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    test.addTeardownBlock { try? FileManager.default.removeItem(at: folder) }
    return folder
}

/// A copy of the golden bundle that a test may damage.
public func copyOfBundle(_ test: XCTestCase) throws -> URL {
    let copy = try temporaryFolder(test).appendingPathComponent("bundle")
    try FileManager.default.copyItem(at: Golden.folder.appendingPathComponent("bundle"), to: copy)
    return copy
}

/// Replace a text that a file has exactly once.
public func replace(_ file: URL, _ old: String, _ new: String) throws {
    let text = try String(contentsOf: file, encoding: .utf8)
    XCTAssertEqual(text.components(separatedBy: old).count, 2, "\(old) occurs once")
    try Data(text.replacingOccurrences(of: old, with: new).utf8).write(to: file)
}
