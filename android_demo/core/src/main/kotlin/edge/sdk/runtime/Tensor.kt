package edge.sdk.runtime

/** An array that goes into a graph or comes out of one, in C order (the last index runs fastest). */
sealed class Tensor {
    /** Sizes, outermost first; none for a scalar. */
    abstract val shape: IntArray

    /** Number of elements, the product of [shape]. */
    val size: Int get() = shape.fold(1) { product, length -> Math.multiplyExact(product, length) }
}

/** 32-bit floats. */
class FloatTensor(override val shape: IntArray, val data: FloatArray) : Tensor() {
    init {
        require(data.size == size) { "${data.size} numbers are given for the shape ${shape.contentToString()}" }
    }
}

/** 64-bit integers. */
class LongTensor(override val shape: IntArray, val data: LongArray) : Tensor() {
    init {
        require(data.size == size) { "${data.size} numbers are given for the shape ${shape.contentToString()}" }
    }
}
