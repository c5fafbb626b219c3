/// A decoded picture: upright, in sRGB, over white.
public struct Photo: Equatable, Sendable {
    /// In pixels.
    public let width: Int, height: Int
    /// Red, green and blue of each pixel, row by row; 3 width height bytes.
    public let rgb: [UInt8]

    public init(width: Int, height: Int, rgb: [UInt8]) {
        precondition(rgb.count == 3 * width * height, "\(rgb.count) bytes are no picture of \(width) x \(height)")
        (self.width, self.height, self.rgb) = (width, height, rgb)
    }
}
