/// DDIM sampling (Song et al., 2021), with the numbers of diffusers: the twin of edge_sdk/diffusion/ddim.py.
///
/// z_t = a_t x0 + b_t noise, whatever the model predicts of the two. For a flow a step is Euler's.
public struct Ddim: Sendable {
    public enum Prediction: String, Sendable, CaseIterable {
        case epsilon
        case velocity = "v_prediction"
        case flow
    }

    public enum Spacing: String, Sendable, CaseIterable { case leading, trailing, linspace }

    public let numTrainTimesteps: Int
    public let predictionType: Prediction
    public let spacing: Spacing
    public let stepsOffset: Int
    /// x0 is clipped to this, or not at all.
    public let clipRange: Float?
    public let setAlphaToOne: Bool
    /// Coefficients of every timestep, `numTrainTimesteps` each.
    public let a: [Float]
    public let b: [Float]

    public init(
        numTrainTimesteps: Int, predictionType: Prediction = .epsilon, spacing: Spacing = .leading,
        stepsOffset: Int = 0,
        clipRange: Float? = nil, setAlphaToOne: Bool = true, a: [Float] = [], b: [Float] = []
    ) {
        self.numTrainTimesteps = numTrainTimesteps
        self.predictionType = predictionType
        self.spacing = spacing
        self.stepsOffset = stepsOffset
        self.clipRange = clipRange
        self.setAlphaToOne = setAlphaToOne
        self.a = a
        self.b = b
    }

    /// The largest number of steps of a sampling run.
    public var mostSteps: Int { numTrainTimesteps - stepsOffset }

    /// The timesteps of a sampling run, falling.
    public func timesteps(_ steps: Int) -> [Int] {
        let total = numTrainTimesteps
        func rounded(_ x: Double) -> Int { Int(x.rounded(.toNearestOrEven)) }
        switch spacing {
        case .leading:
            return (0..<steps).reversed().map { $0 * (total / steps) + stepsOffset }
        case .trailing:
            // As numpy's arange: the step is added up by multiplication, and the end is left out.
            let stride = Double(total) / Double(steps)
            let count = Int((Double(total) / stride).rounded(.up))
            return (0..<count).map { rounded(Double(total) - Double($0) * stride) - 1 }
        case .linspace:
            let stride = Double(total - 1) / Double(max(steps - 1, 1))
            return (0..<steps).reversed().map {
                rounded(steps > 1 && $0 == steps - 1 ? Double(total - 1) : Double($0) * stride)
            }
        }
    }

    /// From the latents of one timestep to those of the one before, without added noise: DDIM equation 12.
    public func step(_ predicted: [Float], timestep: Int, steps: Int, latents: [Float]) -> [Float] {
        let before = timestep - numTrainTimesteps / steps
        let (a_t, b_t) = (a[timestep], b[timestep])
        let (a_s, b_s) = (a[max(before, 0)], b[max(before, 0)])
        return zip(latents, predicted).map { z, p in
            var (x0, noise) = parts(of: p, z, a_t, b_t)
            if let clipRange { x0 = min(max(x0, -clipRange), clipRange) }
            return before < 0 && setAlphaToOne ? x0 : a_s * x0 + b_s * noise
        }
    }

    /// x0 and noise that a prediction stands for.
    private func parts(of p: Float, _ z: Float, _ a: Float, _ b: Float) -> (x0: Float, noise: Float) {
        switch predictionType {
        case .epsilon: ((z - b * p) / a, p)
        case .velocity: (a * z - b * p, a * p + b * z)
        case .flow: (z - b * p, z + a * p)
        }
    }

    /// Classifier-free guidance (Ho and Salimans, 2022).
    public static func guided(_ negative: [Float], _ positive: [Float], scale: Float) -> [Float] {
        zip(negative, positive).map { $0 + scale * ($1 - $0) }
    }
}
