package edge.sdk.cli

import edge.sdk.EdgeSdkException
import edge.sdk.measure.MeasureOptions
import edge.sdk.measure.Measurement
import edge.sdk.oneLine
import edge.sdk.ort.OrtLoader
import edge.sdk.runtime.Bundle
import edge.sdk.runtime.GenerateOptions
import edge.sdk.runtime.Generator
import edge.sdk.runtime.Golden
import edge.sdk.runtime.Json
import edge.sdk.runtime.LearnedEmbedding
import edge.sdk.runtime.Picture
import edge.sdk.runtime.readBytes
import java.awt.image.BufferedImage
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import javax.imageio.ImageIO

internal val VERIFY = Command("verify", "run a bundle's golden vectors", listOf(BUNDLE, THREADS)) { arguments, _ ->
    val bundle = Bundle.open(File(arguments.required("bundle")))
    if (bundle.leftovers.isNotEmpty())
        notice("note: not part of the bundle and not opened: ${bundle.leftovers.take(10).joinToString(", ")}")
    val outcomes = Golden.verify(bundle, OrtLoader(arguments.whole("threads") ?: 0))
    for (each in outcomes) {
        val verdict = if (each.good) "ok" else "FAILED"
        println("%s: %s, worst relative difference %.1e (bound %.0e)".format(each.graph, verdict, each.worst, each.bound))
    }
    if (outcomes.all { it.good }) DONE else FAILED
}

internal val MEASURE = Command(
    "measure",
    "measure a run's time and memory, and write one JSON file",
    listOf(
        BUNDLE,
        Flag("output", "file to write", "RESULT.json", required = true),
        Flag("max_train_steps", "updates of the token (default: the preset's)", "INT"),
        Flag("train_data_dir", "folder with photos (default: five seeded pictures)", "DIR"),
        Flag("max_batch", "rows per call of the denoiser (default: 1 to 16, by the size of the latents)", "INT"),
        SEED,
        THREADS,
        QUIET,
    ),
) { arguments, words ->
    val output = File(arguments.required("output"))
    if (output.absoluteFile.parentFile?.isDirectory != true)
        throw EdgeSdkException("$output cannot be written: its folder does not exist; choose another place")
    val bundle = Bundle.open(File(arguments.required("bundle")))
    val threads = arguments.whole("threads") ?: 0
    val photos = arguments.text("train_data_dir")
        ?.let { PhotoFolder.read(File(it), bundle.manifest.resolution, centerCrop = true).photos }
    val options = MeasureOptions(
        command = (listOf(PROGRAM) + words).joinToString(" "),
        client = "edge-sdk $VERSION (Kotlin)",
        onnxruntime = OrtLoader.version(),
        threads = threads,
        steps = arguments.whole("max_train_steps"),
        maxBatch = arguments.whole("max_batch"),
        seed = arguments.seed("seed") ?: 0u,
    )
    val stop = Stop()
    val record = Measurement(bundle, OrtLoader(threads), JvmDevice, options, photos).run { step ->
        if ("quiet" !in arguments) notice("step $step")
        !stop.isRequested
    }
    if (record == null) {
        notice("$PROGRAM: stopped; nothing is written")
        CANCELLED
    } else {
        RunFolder.writeWhole(output, (Json.write(record, indent = 2) + "\n").toByteArray())
        if ("quiet" !in arguments) println(printable("wrote $output"))
        DONE
    }
}

internal val GENERATE = Command(
    "generate",
    "draw pictures from a prompt and learned words",
    listOf(
        BUNDLE,
        Flag("prompt", "what to draw", required = true),
        Flag("embedding", "a learned_embeds.safetensors whose word the prompt has (default: none)", "FILE"),
        Flag("output", "PNG file, with a number before its suffix if there are several", "FILE", required = true),
        Flag("negative_prompt", "what to keep away from"),
        Flag("num_images", "pictures (default 1)", "INT"),
        Flag("num_inference_steps", "steps of a picture (default 25)", "INT"),
        Flag("guidance_scale", "how closely the prompt is followed (default 4)", "FLOAT"),
        SEED,
        THREADS,
        QUIET,
    ),
) { arguments, _ ->
    val options = GenerateOptions(
        arguments.text("negative_prompt").orEmpty(),
        arguments.whole("num_images") ?: 1,
        arguments.whole("num_inference_steps") ?: 25,
        arguments.real("guidance_scale") ?: 4.0,
        arguments.seed("seed") ?: 0u,
    )
    val files = outputs(File(arguments.required("output")), options.numImages)
    val embeddings = arguments.text("embedding")?.let { listOf(embedding(File(it))) }.orEmpty()
    val bundle = Bundle.open(File(arguments.required("bundle")))
    val pictures = Generator(bundle, OrtLoader(arguments.whole("threads") ?: 0))
        .generate(arguments.required("prompt"), embeddings, options)
    for ((file, picture) in files.zip(pictures)) {
        RunFolder.writeWhole(file, png(picture))
        if ("quiet" !in arguments) println(printable("wrote $file"))
    }
    DONE
}

/** The files of some pictures, checked before any is drawn. */
private fun outputs(output: File, count: Int): List<File> {
    val folder = output.absoluteFile.parentFile
    if (output.extension.lowercase() != "png") throw EdgeSdkException("output is $output; it must end in .png")
    if (!folder.isDirectory) throw EdgeSdkException("output is $output, but there is no folder $folder; make it first")
    val files = when (count) {
        1 -> listOf(output)
        else -> List(count) { output.resolveSibling("${output.nameWithoutExtension}-$it.${output.extension}") }
    }
    files.firstOrNull { it.isDirectory }?.let {
        throw EdgeSdkException("output is $it, which is a folder; give the name of a file")
    }
    return files
}

private const val MOST_BYTES = 64 shl 20 // of an embedding

private fun embedding(file: File): LearnedEmbedding {
    val bytes = try {
        readBytes(file, MOST_BYTES)
    } catch (error: IOException) {
        throw EdgeSdkException("$file cannot be read: ${oneLine(error)}; give a learned_embeds.safetensors", error)
    }
    return LearnedEmbedding.parse(bytes, file.path)
}

private fun png(picture: Picture): ByteArray {
    val image = BufferedImage(picture.width, picture.height, BufferedImage.TYPE_INT_RGB)
    val rgb = picture.rgb
    for (i in 0 until picture.width * picture.height) {
        val color = (0..2).fold(0) { all, c -> (all shl 8) or (rgb[3 * i + c].toInt() and 0xff) }
        image.setRGB(i % picture.width, i / picture.width, color)
    }
    return ByteArrayOutputStream().also { ImageIO.write(image, "png", it) }.toByteArray()
}
