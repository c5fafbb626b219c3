package edge.sdk.zo

/**
 * The last word of a counter: sequences of different streams are unrelated. Who takes which steps of which stream is in
 * one table, `NUMBERS` of edge_sdk/zo/noise.py.
 */
enum class Stream(val word: Int) { PERTURBATION(0), NOISE(1), TIMESTEP(2), IMAGE(3), AUGMENTATION(4) }

/**
 * Portable randomness: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), a
 * function of a key and a counter. The twin of edge_sdk/zo/noise.py, which says how words become numbers.
 *
 * Number i of a sequence depends on (seed, stream, step, i) only: longer requests begin with the shorter ones.
 */
object Noise {
    private const val M0 = 0xD2511F53L
    private const val M1 = 0xCD9E8D57L
    private const val W0 = 0x9E3779B9.toInt()
    private const val W1 = 0xBB67AE85.toInt()
    private const val LOW = 0xFFFFFFFFL
    private const val TWO_TO_32 = 4294967296.0

    /** Ten rounds on a counter of four words and a key of two; all words are unsigned, in the bits of an Int. */
    fun philox4x32(counter: IntArray, key: IntArray): IntArray =
        counter.copyOf().also { rounds(it, key[0], key[1]) }

    /** Words [start] to [start] + [count] of a sequence, each the bits of an unsigned number. */
    fun words(seed: ULong, stream: Stream, step: Long, count: Int, start: Long = 0): IntArray {
        require(step in 0..LOW) { "step $step must be in [0, 2^32)" }
        val out = IntArray(count)
        val block = IntArray(4)
        var number = start / 4
        var skip = (start % 4).toInt()
        var filled = 0
        while (filled < count) {
            block[0] = number.toInt()
            block[1] = (number ushr 32).toInt()
            block[2] = step.toInt()
            block[3] = stream.word
            rounds(block, seed.toInt(), (seed shr 32).toInt())
            val length = minOf(4 - skip, count - filled)
            block.copyInto(out, filled, skip, skip + length)
            filled += length
            skip = 0
            number++
        }
        return out
    }

    /** [count] numbers in (0, 1). */
    fun uniforms(seed: ULong, stream: Stream, step: Long, count: Int, start: Long = 0): DoubleArray {
        val words = words(seed, stream, step, count, start)
        return DoubleArray(count) { uniform(words[it]) }
    }

    /** [count] integers in [0, n), for 1 <= n <= 2^32. */
    fun integers(seed: ULong, stream: Stream, step: Long, count: Int, n: Long, start: Long = 0): LongArray {
        val words = words(seed, stream, step, count, start)
        return LongArray(count) { ((words[it].toLong() and LOW) * n) ushr 32 }
    }

    /** [count] standard normals, from number [start] of the sequence on; each is rounded to 32 bits once. */
    fun normals(seed: ULong, stream: Stream, step: Long, count: Int, start: Long = 0): FloatArray {
        val skip = (start % 2).toInt()
        val words = words(seed, stream, step, (skip + count + 1) / 2 * 2, start - skip)
        val out = FloatArray(count)
        for (i in words.indices step 2) {
            // StrictMath gives the same bits on every device.
            val radius = StrictMath.sqrt(-2.0 * StrictMath.log(uniform(words[i])))
            val angle = 2.0 * Math.PI * uniform(words[i + 1])
            val at = i - skip
            if (at >= 0) out[at] = (radius * StrictMath.cos(angle)).toFloat()
            if (at + 1 < count) out[at + 1] = (radius * StrictMath.sin(angle)).toFloat()
        }
        return out
    }

    private fun uniform(word: Int): Double = ((word.toLong() and LOW) + 0.5) / TWO_TO_32

    private fun rounds(c: IntArray, firstKey: Int, secondKey: Int) {
        var k0 = firstKey
        var k1 = secondKey
        repeat(10) {
            val p0 = M0 * (c[0].toLong() and LOW)
            val p1 = M1 * (c[2].toLong() and LOW)
            c[0] = (p1 ushr 32).toInt() xor c[1] xor k0
            c[1] = p1.toInt()
            c[2] = (p0 ushr 32).toInt() xor c[3] xor k1
            c[3] = p0.toInt()
            k0 += W0
            k1 += W1
        }
    }
}
