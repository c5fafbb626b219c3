package edge.sdk.zo

private const val FLAT = 0.01 // of the loss decrease so far: a smaller one since the last look ends the run
private const val LOOK = 330 // forward passes between two looks
private const val SAVE = 150 // forward passes between two checkpoints

/** A run with the setting `auto` takes at most this many times its preset's own number of steps. */
const val LONGEST = 3

/** About how many steps lie between two checkpoints. */
fun stepsBetweenCheckpoints(config: ZoConfig): Int = stepsOf(SAVE, config)

/**
 * When a run has nothing more to gain: looks at the held-out loss every few steps; true once the decrease since the
 * look before is below [FLAT] of the whole. The twin of edge_sdk/zo/early_stopping.py.
 *
 * @param measure the held-out loss now; fixed draws, so that two looks differ by the token alone
 * @param initial the held-out loss of the initializer
 * @param before that of the token the run goes on from
 */
class EarlyStopping(
    private val measure: () -> Double,
    private val initial: Double,
    private var before: Double,
    config: ZoConfig,
) {
    /** Steps between two looks. */
    val every: Int = stepsOf(LOOK, config)

    /** Whether the run ends after [step] (from 1). */
    fun isFlat(step: Int): Boolean {
        if (step % every != 0) return false
        val now = measure()
        val gained = before - now
        before = now
        return gained < FLAT * (initial - now)
    }
}

/** About how many steps take so many forward passes, at least one. */
private fun stepsOf(forwards: Int, config: ZoConfig): Int = maxOf(1, forwards / config.forwardsPerStep)
