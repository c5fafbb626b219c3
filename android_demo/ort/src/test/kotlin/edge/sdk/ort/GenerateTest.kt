package edge.sdk.ort

import edge.sdk.EdgeSdkException
import edge.sdk.runtime.Bundle
import edge.sdk.runtime.GenerateOptions
import edge.sdk.runtime.Generator
import edge.sdk.runtime.LearnedEmbedding
import edge.sdk.testing.GoldenCases
import org.junit.Test
import kotlin.math.abs
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

class GenerateTest {
    private val golden = GoldenCases.read("bundle_runs.json")
    private val case = golden["pictures"]
    private val bundle = Bundle.open(GoldenCases.folder.resolve(golden["bundle"].text))
    private val learned = LearnedEmbedding(
        golden["placeholder_token"].text,
        golden["runs"].list[case["vectors_of_run"].int]["vectors"].floats,
        bundle.widths,
    )
    private val options = GenerateOptions(
        numImages = case["num_images"].int,
        numInferenceSteps = case["num_inference_steps"].int,
        guidanceScale = case["guidance_scale"].double,
        seed = case["seed"].seed,
    )

    @Test
    fun `pictures are Python's`() = GoldenCases.one(case) {
        val pictures = Generator(bundle, OrtLoader()).generate(case["prompt"].text, listOf(learned), options)
        for ((picture, hex) in pictures.zip(case["rgb"].list)) {
            val wanted = hex.text.chunked(2).map { it.toInt(16) }
            assertEquals(wanted.size, picture.rgb.size)
            val worst = wanted.indices.maxOf { abs(wanted[it] - (picture.rgb[it].toInt() and 0xff)) }
            assertTrue(worst <= 2, "$worst levels apart")
        }
        assertEquals(options.numImages, pictures.size)
    }

    @Test
    fun `every step is told, and a no ends it`() {
        val told = mutableListOf<Int>()
        Generator(bundle, OrtLoader()).generate("a dog", options = options) { done, total ->
            assertEquals(2 * (options.numInferenceSteps + 1), total)
            told += done
            true
        }
        assertEquals((0..2 * (options.numInferenceSteps + 1)).toList(), told)
        val none = Generator(bundle, OrtLoader()).generate("a dog", options = options) { done, _ -> done < 3 }
        assertEquals(emptyList(), none)
    }

    @Test
    fun `without guidance the negative prompt changes nothing`() {
        fun drawn(negative: String) = Generator(bundle, OrtLoader())
            .generate("a dog", options = GenerateOptions(negative, numInferenceSteps = 2, guidanceScale = 1.0)).single().rgb.toList()
        assertEquals(drawn(""), drawn("a cat"))
    }

    @Test
    fun `embeddings that do not fit are one line`() {
        val generator = Generator(bundle, OrtLoader())
        val narrow = LearnedEmbedding("<narrow>", FloatArray(8), intArrayOf(8))
        val same = LearnedEmbedding("<MUG>", learned.vectors, bundle.widths)
        for (wrong in listOf(listOf(narrow), listOf(learned, same))) {
            val error = assertFailsWith<EdgeSdkException> { generator.generate("a <mug>", wrong, options) }
            assertEquals(1, error.message!!.lines().size)
        }
        assertFailsWith<EdgeSdkException> { GenerateOptions(numImages = 0) }
        assertFailsWith<EdgeSdkException> { GenerateOptions(guidanceScale = Double.NaN) }
    }
}
