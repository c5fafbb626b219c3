package edge.sdk.cli

import sun.misc.Signal

/** Whether the user has asked for a stop: SIGINT, SIGTERM and SIGHUP ask once, and break off the second time. */
internal class Stop {
    @Volatile
    var isRequested = false
        private set

    init {
        for (name in listOf("INT", "TERM", "HUP")) {
            Signal.handle(Signal(name)) {
                if (isRequested) Runtime.getRuntime().halt(CANCELLED)
                isRequested = true
            }
        }
    }
}
