package edge.sdk.ort

import edge.sdk.EdgeSdkException

/**
 * ONNX Runtime's telemetry, which versions from 1.29 on send by default. They read one environment variable when their
 * library is loaded, and later calls to switch it off come too late.
 */
object Telemetry {
    /** The variable; a process that is started with it set to 1 needs no call. */
    const val VARIABLE = "ORT_DISABLE_TELEMETRY"

    /**
     * Sets the variable, before anything of ONNX Runtime is loaded.
     *
     * @param setenv sets a variable of this process, on Android `{ name, value -> Os.setenv(name, value, true) }`; Java
     *   itself cannot.
     */
    fun switchOff(setenv: (String, String) -> Unit) = setenv(VARIABLE, "1")

    /** Throws [EdgeSdkException] unless it is off. */
    internal fun requireOff() {
        if (System.getenv(VARIABLE) != "1") {
            throw EdgeSdkException(
                "$VARIABLE is ${System.getenv(VARIABLE) ?: "not set"}; set it to 1 before ONNX Runtime is loaded, so that nothing is sent",
            )
        }
    }
}
