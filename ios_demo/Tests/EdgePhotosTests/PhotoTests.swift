import EdgePhotos
import EdgeSystem
import EdgeZO
import Foundation
import TestSupport
import XCTest

final class PhotoTests: XCTestCase {
    private func bytes(_ hex: Json) -> [UInt8] {
        let digits = Array(hex.string!.utf8)
        return stride(from: 0, to: digits.count, by: 2).map {
            UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)!
        }
    }

    private func photo(_ one: Json) -> Photo {
        let size = one.at("size").integers
        return Photo(width: size[0], height: size[1], rgb: bytes(one.at("rgb")))
    }

    func testCroppingAndResamplingEqualPillowsToTheByte() throws {
        for one in try Golden.json("photos.json").at("photos").array {
            for resized in one.at("resized").array {
                XCTAssertEqual(photo(one).square(resized.at("side").integer).rgb, bytes(resized.at("rgb")))
            }
            for squeezed in one.at("squeezed").array {
                XCTAssertEqual(
                    photo(one).square(squeezed.at("side").integer, crop: false).rgb, bytes(squeezed.at("rgb")))
            }
        }
    }

    func testPixelsAreTheFloatsOfBytes() throws {
        let golden = try Golden.json("photos.json").at("bytes_to_float").floats
        let ramp = Photo(width: 256, height: 1, rgb: (0..<256).flatMap { [UInt8](repeating: UInt8($0), count: 3) })
        XCTAssertEqual(ramp.pixels, golden + golden + golden)
    }

    func testDecodedFilesAreUprightAndOverWhite() throws {
        for one in try Golden.json("photos.json").at("photos").array {
            let name = one.at("file").string!
            let decoded = try PhotoFile.decode(Golden.folder.appendingPathComponent(name), resolution: 8)
            let due = photo(one)
            XCTAssertEqual([decoded.width, decoded.height], [due.width, due.height], name)
            let most = zip(decoded.rgb, due.rgb).map { abs(Int($0) - Int($1)) }.max()!
            XCTAssertLessThanOrEqual(most, name == "photo_clear.png" ? 1 : 0, name)
        }
    }

    func testWhatIsNoPhotoIsRefusedInOneLine() throws {
        let whole = try Golden.bytes("photo_wide.png")
        for (bytes, why) in [
            ([], "not a PNG"), (Array("hello".utf8), "not a PNG"), (Array(whole.prefix(whole.count / 2)), "damaged"),
            ([0xFF, 0xD8, 0xFF, 0xE0, 0, 0], "damaged"), (Array(whole.prefix(8)), "damaged"),
        ] as [([UInt8], String)] {
            XCTAssertThrowsError(try PhotoFile.decode(bytes, resolution: 8)) { error in
                XCTAssertTrue("\(error)".contains(why) && !"\(error)".contains("\n"), "\(error)")
            }
        }
        XCTAssertThrowsError(try PhotoFile.decode(Golden.folder, resolution: 8))
    }

    func testADamagedOrientationMeansUpright() {
        let tag: [UInt8] = [0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0]
        let block: [UInt8] = Array("MM".utf8) + [0, 42, 0, 0, 0, 8, 0, 1] + tag
        XCTAssertEqual(Orientation(exif: Array("Exif\0\0".utf8) + block), .quarterTurn)
        for cut in 0..<block.count { XCTAssertEqual(Orientation(exif: block.prefix(cut)), .upright) }
        for wrong in [0, 9, 255] as [UInt8] {
            var other = block
            other[19] = wrong
            XCTAssertEqual(Orientation(exif: other), .upright)
        }
    }
}
