package edge.sdk.zo

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
