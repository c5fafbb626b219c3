package edge.sdk.zo

import edge.sdk.EdgeSdkException
import edge.sdk.oneLine
import edge.sdk.runtime.Json
import edge.sdk.runtime.Safetensors
import edge.sdk.runtime.StoredTensor
import java.security.MessageDigest
import java.security.SecureRandom

private const val SCHEMA_VERSION = "3"
private const val MOST_BYTES = 64 shl 20
private val METADATA = listOf("schema_version", "config", "seed", "fingerprints") // some versions: mu_min and salt

/** A checkpoint cannot be used; one line naming what is wrong with it. */
class CheckpointException(message: String, cause: Throwable? = null) : EdgeSdkException(message, cause)

/**
 * A state as the bytes of a file of safetensors, which continue a run bit for bit. The twin of
 * edge_sdk/zo/checkpoint.py.
 *
 * What must be the same when a run goes on, the photos above all, is kept as salted hashes. So no two runs can be
 * linked by them, and no table of known pictures fits.
 *
 * @param fingerprints must be the same again when it is read
 * @param salt 32 hexadecimal digits; with the same one the same state gives the same bytes
 */
fun stateBytes(state: State, fingerprints: Map<String, String>, salt: String = freshSalt()): ByteArray {
    val (k, d) = state.shape
    val n = state.newton.basis.size
    val counts = longArrayOf(
        state.step.toLong(), state.forwards, state.averageCount.toLong(), state.badSteps.toLong(),
        state.adam.count.toLong(), state.newton.count.toLong(),
    )
    val tensors = linkedMapOf(
        "embedding" to StoredTensor.of(state.embedding, k, d),
        "adam_m" to StoredTensor.of(state.adam.m, k, d),
        "adam_v" to StoredTensor.of(state.adam.v, k, d),
        "average_sum" to StoredTensor.of(state.averageSum, k, d),
        "subspace_history" to StoredTensor.of(state.subspace.history.joined(k * d), state.subspace.history.size, k * d),
        "subspace_removed" to StoredTensor.of(state.subspace.removed.joined(k * d), state.subspace.removed.size, k * d),
        "newton_basis" to StoredTensor.of(state.newton.basis.joined(k * d), n, k, d),
        "newton_slope" to StoredTensor.of(state.newton.slope, n),
        "newton_curvature" to StoredTensor.of(DoubleArray(n * n) { state.newton.curvature[it / n][it % n] }, n, n),
        "newton_seen" to StoredTensor.of(state.newton.seen, n),
        "counts" to StoredTensor.of(counts, counts.size),
        "seconds" to StoredTensor.of(doubleArrayOf(state.seconds), 1),
    )
    val hashes = fingerprints.toSortedMap().mapValues { (_, value) -> salted(value, salt) }
    val metadata = linkedMapOf(
        "schema_version" to SCHEMA_VERSION,
        "config" to Json.write(state.config.toJson()),
        "seed" to state.seed.toString(),
        "mu_min" to pythonFloat(state.muMin),
        "salt" to salt,
        "fingerprints" to Json.write(hashes),
    )
    return Safetensors(metadata, tensors).toBytes { Json.write(it) }
}

/**
 * The state that the bytes of a file hold.
 *
 * @param fingerprints see [stateBytes]; empty: anything is taken
 * @param path of the file, for messages
 * @throws CheckpointException the bytes are cut short, edited, of another schema, hold a number that is not finite, or
 *     were made with other fingerprints
 */
fun readState(
    bytes: ByteArray,
    fingerprints: Map<String, String> = emptyMap(),
    path: String = "the checkpoint",
): State {
    val file = try {
        require(bytes.size <= MOST_BYTES) { "it is larger than ${MOST_BYTES shr 20} MB" }
        Safetensors.parse(bytes, setOf("F32", "F64", "I64"))
    } catch (error: RuntimeException) { // of sizes that overflow, too
        throw CheckpointException("$path is damaged (${oneLine(error, 200)})", error)
    }
    return try {
        Reader(file, path).state(fingerprints)
    } catch (error: CheckpointException) {
        throw error
    } catch (error: Exception) {
        throw CheckpointException("$path is not a checkpoint of this program (${oneLine(error, 200)})", error)
    }
}

/** The hash that is kept in place of a value; [salt] is kept beside it. */
internal fun salted(value: String, salt: String): String {
    require(salt.length % 2 == 0 && salt.all { it.isHexDigit() }) { "the salt is no hexadecimal text" }
    val prefix = ByteArray(salt.length / 2) { salt.substring(2 * it, 2 * it + 2).toInt(16).toByte() }
    return hexadecimal(MessageDigest.getInstance("SHA-256").digest(prefix + value.toByteArray()))
}

private class Reader(private val file: Safetensors, private val path: String) {
    fun state(fingerprints: Map<String, String>): State {
        for (name in METADATA) require(file.metadata[name] is String) { "the entry $name of its metadata is no text" }
        val version = text("schema_version")
        if (version != SCHEMA_VERSION) {
            throw CheckpointException(
                "$path was saved by another version of edge-sdk (schema version ${version.take(20)}, this one reads " +
                    "$SCHEMA_VERSION); start a new run, or resume with that version",
            )
        }
        val state = start()
        val (size, n) = state.embedding.size to state.newton.basis.size
        val (k, d) = state.shape
        state.adam.m = tensor("adam_m", "F64", k, d).doubles()
        state.adam.v = tensor("adam_v", "F64", k, d).doubles()
        state.averageSum = tensor("average_sum", "F64", k, d).doubles()
        state.subspace.history = tensor("subspace_history", "F32", null, size).rows(size)
        state.subspace.removed = tensor("subspace_removed", "F32", null, size).rows(size)
        for ((name, rows) in listOf("history" to state.subspace.history, "removed" to state.subspace.removed)) {
            require(rows.size <= state.config.subspaceBuffer) { "subspace_$name has ${rows.size} rows" }
        }
        state.newton.slope = tensor("newton_slope", "F64", n).doubles()
        val curvature = tensor("newton_curvature", "F64", n, n).doubles()
        state.newton.curvature = Array(n) { curvature.copyOfRange(it * n, (it + 1) * n) }
        state.newton.seen = tensor("newton_seen", "I64", n).longs()
        val counts = tensor("counts", "I64", 6).longs()
        val most = longArrayOf(1_000_000_000, 1L shl 53, counts[0], counts[0], counts[0], counts[0])
        for ((count, limit) in counts.zip(most)) require(count in 0..limit) { "a count is $count" }
        state.step = counts[0].toInt()
        state.forwards = counts[1]
        state.averageCount = counts[2].toInt()
        state.badSteps = counts[3].toInt()
        state.adam.count = counts[4].toInt()
        state.newton.count = counts[5].toInt()
        state.seconds = tensor("seconds", "F64", 1).doubles()[0]
        checkFinite()
        require(state.seconds in 0.0..1e12) { "seconds is out of range" }
        checkFingerprints(fingerprints)
        return state
    }

    private fun start(): State {
        val embedding = tensor("embedding", "F32", null, null)
        val basis = tensor("newton_basis", "F32", null, embedding.shape[0], embedding.shape[1])
        require(embedding.bytes.isNotEmpty()) { "the embedding is empty" }
        val seed = requireNotNull(text("seed").toULongOrNull()) { "the seed is no number" }
        val muMin = requireNotNull(numberOf(file.metadata["mu_min"] as? String ?: "nan")) { "mu_min is no number" }
        val config = ZoConfig.fromJson(json("config"))
        val size = embedding.shape[0] * embedding.shape[1]
        return State.start(config, seed, embedding.floats(), embedding.shape, muMin, basis.rows(size))
    }

    private fun checkFinite() {
        for ((name, tensor) in file.tensors) {
            val finite = when (tensor.dtype) {
                "F32" -> tensor.floats().all { it.isFinite() }
                "F64" -> tensor.doubles().all { it.isFinite() }
                else -> true
            }
            if (!finite) throw CheckpointException("$path is damaged: $name holds a number that is not finite")
        }
    }

    private fun checkFingerprints(fingerprints: Map<String, String>) {
        val kept = json("fingerprints")
        require(kept.values.all { it is String }) { "a fingerprint is no text" }
        val salt = file.metadata["salt"] as String? // earlier versions kept the values themselves
        for ((name, value) in fingerprints) {
            if (kept[name] != if (salt == null) value else salted(value, salt)) {
                throw CheckpointException(
                    "$path was made with another $name; resume with the same one or start a new run",
                )
            }
        }
    }

    /** A tensor of a dtype and a shape; null is any length. */
    private fun tensor(name: String, dtype: String, vararg shape: Int?): StoredTensor {
        val tensor = requireNotNull(file.tensors[name]) { "$name is missing" }
        val fits = tensor.shape.size == shape.size &&
            shape.indices.all { shape[it] == null || shape[it] == tensor.shape[it] }
        if (tensor.dtype != dtype || !fits) {
            throw CheckpointException(
                "$path is damaged: $name is ${tensor.dtype} ${tensor.shape.contentToString()}, not $dtype " +
                    shape.joinToString(", ", "[", "]") { it?.toString() ?: "any" },
            )
        }
        return tensor
    }

    private fun text(name: String) = file.metadata[name] as String

    @Suppress("UNCHECKED_CAST")
    private fun json(name: String): Map<String, Any?> =
        requireNotNull(Json.parse(text(name)) as? Map<String, Any?>) { "$name is no object" }
}

private fun List<FloatArray>.joined(width: Int): FloatArray =
    FloatArray(size * width).also { forEachIndexed { i, row -> row.copyInto(it, i * width) } }

private fun StoredTensor.rows(width: Int): List<FloatArray> =
    floats().let { all -> List(shape[0]) { all.copyOfRange(it * width, (it + 1) * width) } }

private fun pythonFloat(value: Double) = Json.write(value).lowercase().replace("infinity", "inf")

private fun numberOf(text: String): Double? = when (text) {
    "nan" -> Double.NaN
    "inf" -> Double.POSITIVE_INFINITY
    else -> text.toDoubleOrNull()
}

private fun freshSalt(): String = hexadecimal(ByteArray(16).also { SecureRandom().nextBytes(it) })

private fun Char.isHexDigit() = this in '0'..'9' || this in 'a'..'f' || this in 'A'..'F'

private fun hexadecimal(bytes: ByteArray) =
    bytes.joinToString("") { (it.toInt() and 255).toString(16).padStart(2, '0') }
