package edge.sdk.runtime

import edge.sdk.EdgeSdkException
import edge.sdk.testing.Golden
import edge.sdk.testing.GoldenCases
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith

class TokenizerTest {
    @get:Rule
    val temporary = TemporaryFolder()
    private val golden = GoldenCases.read("tokens.json")
    private val tokenizers = listOf("bundle", "embedded").associateWith { name ->
        val described = golden["tokenizers"][name]
        Tokenizer(GoldenCases.folder.resolve(described["folder"].text), described["vocab_size"].int, described["length"].int)
    }

    private fun both(cases: Golden, check: (Tokenizer, Golden, Golden) -> Unit) = GoldenCases.each(cases) { case ->
        for ((name, tokenizer) in tokenizers) check(tokenizer, case, Golden(case.map[name], "${case.place}.$name"))
    }

    @Test
    fun `marks are the golden ones`() {
        for ((name, tokenizer) in tokenizers) {
            val described = golden["tokenizers"][name]
            assertEquals(listOf("bos", "eos", "pad").map { described[it].int }, listOf(tokenizer.bos, tokenizer.eos, tokenizer.pad))
        }
    }

    @Test
    fun texts() = both(golden["texts"]) { tokenizer, case, ids ->
        assertEquals(ids.ints.toList(), tokenizer.words(case["text"].text))
    }

    @Test
    fun `rows with placeholders`() = both(golden["rows"]) { tokenizer, case, ids ->
        val placeholders = case["placeholders"].list.associate { it.list[0].text to it.list[1].int }
        if (ids.value == null) assertFailsWith<EdgeSdkException> { tokenizer.row(case["prompt"].text, placeholders) }
        else assertEquals(ids.ints.map { it.toLong() }, tokenizer.row(case["prompt"].text, placeholders).toList())
    }

    @Test
    fun `single words`() = both(golden["single_words"]) { tokenizer, case, id ->
        if (id.value == null) assertFailsWith<EdgeSdkException> { tokenizer.word(case["word"].text) }
        else assertEquals(id.int, tokenizer.word(case["word"].text))
    }

    @Test
    fun placeholders() = both(golden["placeholders"]) { tokenizer, case, free ->
        assertEquals(free.flag, !tokenizer.knows(case["placeholder"].text))
    }

    @Test
    fun `folders with added tokens`() = GoldenCases.each(golden["folders"]) { case ->
        val folder = temporary.newFolder()
        for (name in listOf("vocab.json", "merges.txt"))
            GoldenCases.folder.resolve("bundle/tokenizer/$name").copyTo(folder.resolve(name))
        for ((name, content) in case["files"].map) folder.resolve(name).writeText(Json.write(content))
        val tokenizer = Tokenizer(folder, 1000, 16)
        assertEquals(case["pad"].int, tokenizer.pad)
        for (one in case["texts"].list) assertEquals(one["ids"].ints.toList(), tokenizer.words(one["text"].text), one["text"].text)
        for (one in case["placeholders"].list) assertEquals(one["free"].flag, !tokenizer.knows(one["placeholder"].text))
    }

    @Test
    fun `a damaged folder is one line`() {
        for ((name, content) in listOf("vocab.json" to "{", "vocab.json" to "[]", "merges.txt" to "a b c", "tokenizer_config.json" to "{\"pad_token\": 1}")) {
            val folder = temporary.newFolder()
            GoldenCases.folder.resolve("bundle/tokenizer").copyRecursively(folder, overwrite = true)
            folder.resolve(name).writeText(content)
            val error = assertFailsWith<EdgeSdkException>(name) { Tokenizer(folder, 626, 16) }
            assertEquals(1, error.message!!.lines().size)
        }
    }
}
