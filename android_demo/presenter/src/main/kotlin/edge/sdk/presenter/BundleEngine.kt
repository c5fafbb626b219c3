package edge.sdk.presenter

import edge.sdk.photos.Photo
import edge.sdk.runtime.Bundle
import edge.sdk.runtime.BundleText
import edge.sdk.runtime.FitOptions
import edge.sdk.runtime.GenerateOptions
import edge.sdk.runtime.Generator
import edge.sdk.runtime.GraphLoader
import edge.sdk.runtime.LearnedEmbedding
import edge.sdk.runtime.Personalizer
import java.io.File

/** The library, as the presenter uses it. */
class BundleEngine(private val graphs: GraphLoader) : Engine {
    override fun open(folder: File): Model = BundleModel(Bundle.open(folder), graphs)
}

private class BundleModel(private val bundle: Bundle, private val graphs: GraphLoader) : Model {
    private val personalizer = Personalizer(bundle, graphs)
    override val resolution get() = bundle.manifest.resolution

    override fun prompt(word: String): String = BundleText(bundle).trainingPrompts("object", word).first()

    override fun learn(task: Task): Sequence<Progress> {
        val options = FitOptions(
            seed = task.seed.toULong(),
            resume = task.resume,
            checkpoint = task.checkpoint,
            checkpointingSteps = 1, // Android may end the process at any step, and a state is small
        )
        return personalizer.fit(task.photos, task.word, task.initializer, options)
            .map { Progress(it.step, it.steps, it.loss, it.etaSeconds) }
    }

    override fun token(): ByteArray = personalizer.embedding().toBytes()

    override fun heldOutLoss() = HeldOut(personalizer.lossInitial, personalizer.lossFinal)

    override fun draw(prompt: String, token: ByteArray?, session: Session): Photo {
        val options = GenerateOptions(seed = session.seed.toULong())
        val generator = Generator(bundle, graphs)
        return when (token) {
            null -> generator.generate(prompt.replace(session.word, session.initializer), emptyList(), options)
            else -> generator.generate(prompt, listOf(LearnedEmbedding.parse(token, "the word's file")), options)
        }.single()
    }

    override fun close() = personalizer.close()
}
