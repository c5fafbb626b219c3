#if os(Linux)
    import CPhotoCodecs
    import EdgeSystem
    import EdgeZO
    import Foundation

    typealias PlatformDecoder = LinuxDecoder

    /// PNG by libpng and JPEG by TurboJPEG, for the command line and the tests. Colour profiles are passed over.
    enum LinuxDecoder: PictureDecoder {
        static func decode(_ bytes: [UInt8], reduction: (Int, Int) throws -> Int) throws -> Photo {
            if bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) {
                return try png(bytes, reduction).turned(Orientation(exif: exifOfPng(bytes)))
            }
            if bytes.starts(with: [0xFF, 0xD8, 0xFF]) {
                return try jpeg(bytes, reduction).turned(Orientation(exif: exifOfJpeg(bytes)))
            }
            throw EdgeSdkError("not a PNG or JPEG picture; the command line reads these two, so save it as one of them")
        }

        private static func png(_ bytes: [UInt8], _ reduction: (Int, Int) throws -> Int) throws -> Photo {
            var image = png_image()
            image.version = UInt32(PNG_IMAGE_VERSION)
            defer { png_image_free(&image) }
            guard png_image_begin_read_from_memory(&image, bytes, bytes.count) != 0 else { throw damaged(image) }
            let (width, height) = (Int(image.width), Int(image.height))
            _ = try reduction(width, height)
            guard width * height <= PhotoFile.mostPixels else {
                throw EdgeSdkError("\(width) x \(height) pixels; save it smaller, or as JPEG")
            }
            image.format = PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_ALPHA
            image.flags |= UInt32(PNG_IMAGE_FLAG_16BIT_sRGB)
            var rgba = [UInt8](repeating: 0, count: 4 * width * height)
            guard png_image_finish_read(&image, nil, &rgba, 0, nil) != 0 else { throw damaged(image) }
            return Photo(width: width, height: height, rgb: overWhite(rgba))
        }

        static func png(_ photo: Photo) throws -> [UInt8] {
            var image = png_image()
            image.version = UInt32(PNG_IMAGE_VERSION)
            (image.width, image.height) = (UInt32(photo.width), UInt32(photo.height))
            image.format = PNG_FORMAT_FLAG_COLOR
            defer { png_image_free(&image) }
            // More than any PNG of it: a byte a row for its filter, and of zlib five for each 16 kB; the rest are headers.
            var count = photo.rgb.count + photo.height
            count += count / 1000 + 1024
            var bytes = [UInt8](repeating: 0, count: count)
            guard png_image_write_to_memory(&image, &bytes, &count, 0, photo.rgb, 0, nil) != 0 else {
                throw damaged(image)
            }
            return Array(bytes.prefix(count))
        }

        private static func damaged(_ image: png_image) -> EdgeSdkError {
            let message = withUnsafeBytes(of: image.message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            return EdgeSdkError("damaged (\(message))")
        }

        /// Red, green and blue over white, in the integers of Pillow's `alpha_composite`.
        private static func overWhite(_ rgba: [UInt8]) -> [UInt8] {
            var rgb: [UInt8] = []
            rgb.reserveCapacity(rgba.count / 4 * 3)
            for start in stride(from: 0, to: rgba.count, by: 4) {
                let alpha = Int(rgba[start + 3])
                for channel in 0..<3 {
                    let sum = (Int(rgba[start + channel]) * alpha + 255 * (255 - alpha) + 128) << 7
                    rgb.append(UInt8(((sum >> 8) + sum) >> 15))
                }
            }
            return rgb
        }

        private static func jpeg(_ bytes: [UInt8], _ reduction: (Int, Int) throws -> Int) throws -> Photo {
            guard let decoder = tjInitDecompress() else { throw EdgeSdkError("too large for this machine's memory") }
            defer { tjDestroy(decoder) }
            func damaged() -> EdgeSdkError { EdgeSdkError("damaged (\(String(cString: tjGetErrorStr2(decoder))))") }
            var (width, height, sampling, colours) = (Int32(0), Int32(0), Int32(0), Int32(0))
            let header = tjDecompressHeader3(decoder, bytes, UInt(bytes.count), &width, &height, &sampling, &colours)
            guard header == 0, width > 0, height > 0 else { throw EdgeSdkError("damaged (it has no size)") }
            guard colours != Int32(TJCS_CMYK.rawValue), colours != Int32(TJCS_YCCK.rawValue) else {
                throw EdgeSdkError("a JPEG in colours of print (CMYK); save it in RGB")
            }
            let factor = Int32(try reduction(Int(width), Int(height)))
            guard Int(width) * Int(height) / Int(factor * factor) <= PhotoFile.mostPixels else {
                throw EdgeSdkError("\(width) x \(height) pixels; save it smaller")
            }
            let (columns, rows) = ((width + factor - 1) / factor, (height + factor - 1) / factor)
            var rgb = [UInt8](repeating: 0, count: 3 * Int(columns) * Int(rows))
            let status = tjDecompress2(
                decoder, bytes, UInt(bytes.count), &rgb, columns, 3 * columns, rows, Int32(TJPF_RGB.rawValue), 0)
            // A warning is untidy data that every viewer shows; only a picture that ends too early is not whole.
            let isWhole = status == 0 || tjGetErrorCode(decoder) == Int32(TJERR_WARNING.rawValue)
            guard isWhole, status == 0 || !String(cString: tjGetErrorStr2(decoder)).contains("Premature end") else {
                throw damaged()
            }
            return Photo(width: Int(columns), height: Int(rows), rgb: rgb)
        }

        /// The chunk eXIf of a PNG.
        private static func exifOfPng(_ bytes: [UInt8]) -> ArraySlice<UInt8> {
            var at = 8
            while at + 12 <= bytes.count {
                let length = bytes[at..<at + 4].reduce(0) { $0 << 8 | Int($1) }
                guard at + 12 + length <= bytes.count else { break }
                if bytes[at + 4..<at + 8].elementsEqual("eXIf".utf8) { return bytes[at + 8..<at + 8 + length] }
                at += 12 + length
            }
            return []
        }

        /// The first segment APP1 of a JPEG that holds EXIF.
        private static func exifOfJpeg(_ bytes: [UInt8]) -> ArraySlice<UInt8> {
            var at = 2
            while at + 4 <= bytes.count, bytes[at] == 0xFF, bytes[at + 1] != 0xDA {
                let length = Int(bytes[at + 2]) << 8 | Int(bytes[at + 3])
                guard length >= 2, at + 2 + length <= bytes.count else { break }
                let content = bytes[at + 4..<at + 2 + length]
                if bytes[at + 1] == 0xE1, content.starts(with: "Exif\0\0".utf8) { return content }
                at += 2 + length
            }
            return []
        }
    }
#endif
