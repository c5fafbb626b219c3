import Foundation

/// A kernel of Pillow's resampling.
enum Filter {
    case lanczos, bicubic

    /// Of a weight's fraction.
    static let bits = 22

    /// Half the kernel's width, in pixels of the larger of both pictures.
    private var reach: Double { self == .lanczos ? 3 : 2 }

    private func value(_ x: Double) -> Double {
        switch self {
        case .lanczos:
            return x >= -3 && x < 3 ? Self.sinc(x) * Self.sinc(x / 3) : 0
        case .bicubic:
            let a = -0.5
            let d = abs(x)
            if d < 1 { return ((a + 2) * d - (a + 3)) * d * d + 1 }
            return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0
        }
    }

    private static func sinc(_ x: Double) -> Double { x == 0 ? 1 : sin(x * .pi) / (x * .pi) }

    /// Where the window of a place begins, and its weights in units of 2^-22.
    struct Window {
        let first: Int
        let weights: [Int]
    }

    /// The windows of all places of a row that has `to` pixels instead of `from`.
    func windows(from: Int, to: Int) -> [Window] {
        let scale = Double(from) / Double(to)
        let stretch = max(scale, 1)
        let support = reach * stretch
        return (0..<to).map { i in
            let center = (Double(i) + 0.5) * scale
            let first = max(0, Int(center - support + 0.5))
            let last = min(from, Int(center + support + 0.5))
            let weights = (first..<last).map { value((Double($0) - center + 0.5) * (1 / stretch)) }
            let total = weights.reduce(0, +)
            return Window(
                first: first,
                weights: weights.map { Int($0 / total * Double(1 << Self.bits) + ($0 < 0 ? -0.5 : 0.5)) })
        }
    }
}
