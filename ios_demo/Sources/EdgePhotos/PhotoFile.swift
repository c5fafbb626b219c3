import EdgeSystem
import EdgeZO
import Foundation

/// A picture file, decoded as a photo that a model learns from.
public enum PhotoFile {
    /// Of a picture that is decoded at full scale; a JPEG of more is decoded at an eighth, a quarter or half.
    static let mostPixels = 40_000_000
    private static let mostBytes = 256 << 20
    private static let leastSide = 8  // pixels
    private static let margin = 2  // a reduced picture keeps this many times the resolution

    /// Decode a file: upright, over white.
    ///
    /// - Parameter resolution: side of the square that the photo becomes; no side is reduced below it.
    /// - Throws: `EdgeSdkError`, one line without the file's name: why the photo cannot be used.
    public static func decode(_ file: URL, resolution: Int) throws -> Photo {
        let values = try? file.resolvingSymlinksInPath().resourceValues(forKeys: [.isRegularFileKey, .fileSizeKey])
        guard values?.isRegularFile == true else { throw EdgeSdkError("not a file; folders in a folder are not read") }
        guard values?.fileSize ?? 0 <= mostBytes else { throw EdgeSdkError("larger than \(mostBytes >> 20) MB") }
        guard let data = try? Data(contentsOf: file) else { throw EdgeSdkError("cannot be opened") }
        return try decode([UInt8](data), resolution: resolution)
    }

    /// Decode the bytes of a file.
    public static func decode(_ bytes: [UInt8], resolution: Int) throws -> Photo {
        try PlatformDecoder.decode(bytes) { width, height in
            guard min(width, height) >= leastSide else {
                throw EdgeSdkError("\(width) x \(height) pixels; each side must be \(leastSide) or more")
            }
            if width * height <= mostPixels { return 1 }
            return [8, 4, 2].first { min(width, height) / $0 >= margin * resolution } ?? 1
        }
    }

    /// The bytes of a PNG file of a picture.
    ///
    /// - Throws: `EdgeSdkError`: there is no memory for it.
    public static func png(_ photo: Photo) throws -> [UInt8] { try PlatformDecoder.png(photo) }
}

/// A way to decode and write a picture with what a system has.
protocol PictureDecoder {
    /// - Parameter reduction: from width and height to the factor by which the decoder may reduce; throws what makes the
    ///   picture unusable.
    static func decode(_ bytes: [UInt8], reduction: (_ width: Int, _ height: Int) throws -> Int) throws -> Photo

    static func png(_ photo: Photo) throws -> [UInt8]
}
