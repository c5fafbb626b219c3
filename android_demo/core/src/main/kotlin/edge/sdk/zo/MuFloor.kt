package edge.sdk.zo

import edge.sdk.EdgeSdkException

/**
 * A preset's settings with mu at the floor or above it, but never above the vocabulary's standard deviation. The twin
 * of `raised` in edge_sdk/mu_floor.py.
 *
 * @param muMin the shortest mu whose loss differences stand out of the rounding of activations; infinite if none did,
 *     NaN if it was not measured
 */
fun raised(config: ZoConfig, muMin: Double, vocabularyStd: Double): ZoConfig = when {
    muMin > config.zoMu -> config.copy(zoMu = minOf(muMin, maxOf(vocabularyStd, config.zoMu)))
    else -> config
}

/**
 * Refuses a mu of the user's that is below the floor.
 *
 * @param muMin see [raised]
 * @param how weights and execution, such as "int8 dequantized"
 * @throws EdgeSdkException
 */
internal fun refuseBelow(config: ZoConfig, muMin: Double, how: String) {
    if (!(config.zoMu < muMin)) return
    val (where, advice) = when {
        muMin.isFinite() -> "below $muMin" to "give at least $muMin"
        else -> "over all lengths that were tried" to "leave it out"
    }
    throw EdgeSdkException(
        "zo_mu is ${config.zoMu}; with $how the rounding of activations drowns this model's loss differences " +
            "$where; $advice",
    )
}
