package edge.sdk.runtime

import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * A tensor of a file of safetensors.
 *
 * @property dtype such as F32
 * @property bytes little-endian numbers, in C order
 */
class StoredTensor(val dtype: String, val shape: IntArray, val bytes: ByteArray) {
    /** 32-bit floats of an F32 tensor. */
    fun floats(): FloatArray = FloatArray(bytes.size / 4).also { buffer().asFloatBuffer().get(it) }

    /** 32-bit floats of a tensor of floats of any size. */
    fun toFloats(): FloatArray {
        val halves = buffer().asShortBuffer()
        return when (dtype) {
            "F16" -> FloatArray(halves.limit()) { halfToFloat(halves[it]) }
            "BF16" -> FloatArray(halves.limit()) { Float.fromBits(halves[it].toInt() shl 16) }
            "F64" -> doubles().let { all -> FloatArray(all.size) { all[it].toFloat() } }
            else -> floats()
        }
    }

    /** 64-bit floats of an F64 tensor. */
    fun doubles(): DoubleArray = DoubleArray(bytes.size / 8).also { buffer().asDoubleBuffer().get(it) }

    /** 64-bit integers of an I64 tensor. */
    fun longs(): LongArray = LongArray(bytes.size / 8).also { buffer().asLongBuffer().get(it) }

    private fun buffer() = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)

    companion object {
        fun of(values: FloatArray, vararg shape: Int) =
            StoredTensor("F32", shape, littleEndian(4 * values.size) { it.asFloatBuffer().put(values) })

        fun of(values: DoubleArray, vararg shape: Int) =
            StoredTensor("F64", shape, littleEndian(8 * values.size) { it.asDoubleBuffer().put(values) })

        fun of(values: LongArray, vararg shape: Int) =
            StoredTensor("I64", shape, littleEndian(8 * values.size) { it.asLongBuffer().put(values) })

        private fun littleEndian(size: Int, fill: (ByteBuffer) -> Unit): ByteArray =
            ByteArray(size).also { fill(ByteBuffer.wrap(it).order(ByteOrder.LITTLE_ENDIAN)) }
    }
}

/**
 * A file of safetensors: 8 bytes little-endian length of the header, a JSON header padded with spaces to a multiple of
 * 8, the tensors one after the other.
 */
class Safetensors(val metadata: Map<String, Any?>, val tensors: Map<String, StoredTensor>) {
    /**
     * The file's bytes, with the tensors in their order.
     *
     * @param header makes the header's text of its entries: `__metadata__`, then the tensors
     */
    fun toBytes(header: (Map<String, Any?>) -> String): ByteArray {
        val entries = linkedMapOf<String, Any?>("__metadata__" to metadata)
        var offset = 0L
        for ((name, tensor) in tensors) {
            entries[name] = linkedMapOf(
                "dtype" to tensor.dtype,
                "shape" to tensor.shape.toList(),
                "data_offsets" to listOf(offset, offset + tensor.bytes.size),
            )
            offset += tensor.bytes.size
        }
        val text = header(entries).toByteArray()
        val length = (text.size + 7) / 8 * 8
        val out = ByteBuffer.allocate(Math.addExact(8 + length, Math.toIntExact(offset))).order(ByteOrder.LITTLE_ENDIAN)
        out.putLong(length.toLong()).put(text)
        repeat(length - text.size) { out.put(' '.code.toByte()) }
        for (tensor in tensors.values) out.put(tensor.bytes)
        return out.array()
    }

    companion object {
        private const val MOST_HEADER = 1 shl 20
        private const val MOST_DIMENSIONS = 4
        private val SIZES = mapOf("F16" to 2, "BF16" to 2, "F32" to 4, "F64" to 8, "I64" to 8)

        /**
         * Reads a file's bytes.
         *
         * @param dtypes the accepted ones
         * @throws IllegalArgumentException cut short, edited, or of another dtype; one line
         */
        fun parse(bytes: ByteArray, dtypes: Set<String>): Safetensors {
            require(bytes.size >= 8) { "it is cut short" }
            val length = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong()
            require(length in 0..minOf(MOST_HEADER, bytes.size - 8)) { "the header is cut short or too long" }
            val start = 8 + length.toInt()
            val header = Json.parse(decodeUtf8(bytes.copyOfRange(8, start))) as? Map<*, *>
            requireNotNull(header) { "the header is no object" }
            val metadata = header["__metadata__"] ?: emptyMap<String, Any?>()
            require(metadata is Map<*, *>) { "the metadata is no object" }
            val tensors = LinkedHashMap<String, StoredTensor>()
            var end = 0L
            for ((name, entry) in header) {
                if (name == "__metadata__") continue
                val tensor = Entry(name as String, entry, dtypes)
                require(tensor.start == end && tensor.end <= bytes.size - start) { "$name is cut short or edited" }
                val from = start + tensor.start.toInt()
                val data = bytes.copyOfRange(from, start + tensor.end.toInt())
                tensors[name] = StoredTensor(tensor.dtype, tensor.shape, data)
                end = tensor.end
            }
            require(end == (bytes.size - start).toLong()) { "it is cut short or edited" }
            @Suppress("UNCHECKED_CAST")
            return Safetensors(metadata as Map<String, Any?>, tensors)
        }

        /** What a header says of a tensor, checked by itself. */
        private class Entry(name: String, value: Any?, dtypes: Set<String>) {
            private val entry = requireNotNull(value as? Map<*, *>) { "$name is no object" }
            val dtype = requireNotNull((entry["dtype"] as? String)?.takeIf { it in dtypes }) {
                "$name is ${entry["dtype"].toString().take(20)}; it must be one of ${dtypes.joinToString(", ")}"
            }
            val shape = numbers(name, entry["shape"]).let { all -> IntArray(all.size) { all[it].toInt() } }
            private val offsets = numbers(name, entry["data_offsets"])
            val start get() = offsets[0]
            val end get() = offsets[1]

            init {
                require(shape.size <= MOST_DIMENSIONS && offsets.size == 2) { "$name has other sizes" }
                val size = shape.fold(SIZES.getValue(dtype).toLong()) { product, each ->
                    Math.multiplyExact(product, each.toLong())
                }
                require(end - start == size) { "$name is cut short or edited" }
            }

            private fun numbers(name: String, value: Any?): List<Long> {
                val all = requireNotNull(value as? List<*>) { "$name has other sizes" }
                return all.map { one ->
                    requireNotNull((one as? Long)?.takeIf { it in 0..Int.MAX_VALUE }) { "$name has other sizes" }
                }
            }
        }
    }
}
