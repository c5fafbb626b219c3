#if canImport(ImageIO)
    import CoreGraphics
    import EdgeSystem
    import EdgeZO
    import Foundation
    import ImageIO

    typealias PlatformDecoder = AppleDecoder

    /// Whatever ImageIO reads (HEIC, JPEG, PNG, WebP, ...), converted to sRGB by the picture's profile.
    enum AppleDecoder: PictureDecoder {
        static func decode(_ bytes: [UInt8], reduction: (Int, Int) throws -> Int) throws -> Photo {
            let options = [kCGImageSourceShouldCache: false] as CFDictionary
            guard let source = CGImageSourceCreateWithData(Data(bytes) as CFData, options),
                let properties = CGImageSourceCopyPropertiesAtIndex(source, 0, options) as? [CFString: Any],
                let width = properties[kCGImagePropertyPixelWidth] as? Int,
                let height = properties[kCGImagePropertyPixelHeight] as? Int
            else { throw EdgeSdkError("not a picture that this device reads; save it as JPEG or PNG") }
            let factor = try reduction(width, height)
            guard
                let image = factor == 1
                    ? CGImageSourceCreateImageAtIndex(source, 0, options) : smaller(source, max(width, height) / factor)
            else { throw EdgeSdkError("damaged") }
            let stored = properties[kCGImagePropertyOrientation] as? Int
            return try drawn(image).turned(stored.flatMap(Orientation.init) ?? .upright)
        }

        static func png(_ photo: Photo) throws -> [UInt8] {
            let data = NSMutableData()
            guard let space = CGColorSpace(name: CGColorSpace.sRGB),
                let provider = CGDataProvider(data: Data(photo.rgb) as CFData),
                let image = CGImage(
                    width: photo.width, height: photo.height, bitsPerComponent: 8, bitsPerPixel: 24,
                    bytesPerRow: 3 * photo.width, space: space,
                    bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue),
                    provider: provider, decode: nil, shouldInterpolate: false, intent: .defaultIntent),
                let file = CGImageDestinationCreateWithData(data, "public.png" as CFString, 1, nil)
            else { throw EdgeSdkError("the picture is too large for this device's memory") }
            CGImageDestinationAddImage(file, image, nil)
            guard CGImageDestinationFinalize(file) else { throw EdgeSdkError("the picture cannot be written as PNG") }
            return [UInt8](data as Data)
        }

        /// The picture with its longer side of at most some pixels, not yet turned; the whole is never in memory.
        private static func smaller(_ source: CGImageSource, _ side: Int) -> CGImage? {
            let options =
                [
                    kCGImageSourceCreateThumbnailFromImageAlways: true, kCGImageSourceThumbnailMaxPixelSize: side,
                    kCGImageSourceCreateThumbnailWithTransform: false,
                ] as CFDictionary
            return CGImageSourceCreateThumbnailAtIndex(source, 0, options)
        }

        private static func drawn(_ image: CGImage) throws -> Photo {
            let (width, height) = (image.width, image.height)
            var rgbx = [UInt8](repeating: 0xFF, count: 4 * width * height)  // white
            let isDrawn = rgbx.withUnsafeMutableBytes { buffer in
                guard let space = CGColorSpace(name: CGColorSpace.sRGB),
                    let context = CGContext(
                        data: buffer.baseAddress, width: width, height: height, bitsPerComponent: 8,
                        bytesPerRow: 4 * width,
                        space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
                else { return false }
                context.interpolationQuality = .none
                context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
                return true
            }
            guard isDrawn else { throw EdgeSdkError("too large for this device's memory") }
            var rgb: [UInt8] = []
            rgb.reserveCapacity(3 * width * height)
            for start in stride(from: 0, to: rgbx.count, by: 4) { rgb += rgbx[start..<start + 3] }
            return Photo(width: width, height: height, rgb: rgb)
        }
    }
#endif
