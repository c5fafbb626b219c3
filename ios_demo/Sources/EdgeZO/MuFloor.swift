import EdgeSystem

/// A perturbation that model and execution can resolve: the twin of the rules of `edge_sdk/mu_floor.py`. The floor itself
/// is measured at the export and stands in the manifest, `mu_min`.
public enum MuFloor {
    /// A preset's settings with mu at the floor or above it, but never above the vocabulary's standard deviation.
    public static func raised(_ config: ZoConfig, muMin: Double, vocabularyStd: Double) -> ZoConfig {
        guard muMin > config.zoMu else { return config }
        var raised = config
        raised.zoMu = min(muMin, max(vocabularyStd, config.zoMu))
        return raised
    }

    /// - Parameter how: weights and execution, such as "int8 dequantized".
    /// - Throws: `EdgeSdkError` for a mu of the user's that is below the floor.
    public static func refuse(_ config: ZoConfig, below muMin: Double, how: String) throws {
        guard config.zoMu < muMin else { return }
        let (place, advice) =
            muMin.isFinite
            ? ("below \(muMin)", "give at least \(muMin)") : ("over all lengths that were tried", "leave it out")
        throw EdgeSdkError(
            "zo_mu is \(config.zoMu); with \(how) the rounding of activations drowns this model's loss differences "
                + "\(place); \(advice)")
    }
}
