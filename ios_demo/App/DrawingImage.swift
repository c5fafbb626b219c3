import CoreGraphics
import EdgeModel
import SwiftUI

/// A drawing on the screen.
struct DrawingImage: View {
    let drawing: Drawing

    var body: some View {
        if let image {
            Image(decorative: image, scale: 1)
                .resizable()
                .scaledToFit()
                .accessibilityElement()
        }
    }

    private var image: CGImage? {
        guard let provider = CGDataProvider(data: Data(drawing.rgb) as CFData),
            let space = CGColorSpace(name: CGColorSpace.sRGB)
        else {
            return nil
        }
        return CGImage(
            width: drawing.side, height: drawing.side, bitsPerComponent: 8, bitsPerPixel: 24,
            bytesPerRow: 3 * drawing.side,
            space: space, bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue), provider: provider,
            decode: nil,
            shouldInterpolate: true, intent: .defaultIntent)
    }
}
