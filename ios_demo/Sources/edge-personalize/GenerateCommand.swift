import EdgeBundle
import EdgeOrt
import EdgePhotos
import EdgeRuntime
import EdgeSystem
import EdgeZO
import Foundation

/// Pictures from a prompt and a learned word.
enum GenerateCommand: Command {
    static let usage = "edge-personalize generate --bundle DIR --prompt TEXT --output FILE.png [options]"
    static let about = "Draw pictures from a prompt, which may hold the word of an embedding."
    static let options = [
        Option(name: "bundle", value: "DIR", help: "a folder written by edge-sdk export", isRequired: true),
        Option(name: "prompt", value: "TEXT", help: "what to draw", isRequired: true),
        Option(
            name: "output", value: "FILE", help: "PNG file, with a number before its suffix if there are several",
            isRequired: true),
        Option(
            name: "embedding", value: "FILE",
            help: "a learned_embeds.safetensors whose word the prompt has (default: none)"),
        Option(name: "negative_prompt", value: "TEXT", help: "what to keep away from"),
        Option(name: "num_images", value: "INT", help: "pictures (default 1)"),
        Option(name: "num_inference_steps", value: "INT", help: "steps of a picture (default 25)"),
        Option(name: "guidance_scale", value: "FLOAT", help: "how closely the prompt is followed (default 4)"),
        Option(name: "seed", value: "INT", help: "seed of every random number (default 0)"),
        Option(name: "threads", value: "INT", help: "threads of the runtime; 0 lets it choose (default 0)"),
        Option(name: "quiet", kind: .flag, help: "print nothing but errors"),
    ]

    static func run(_ arguments: Arguments) async throws -> Int32 {
        var options = Generator.Options()
        options.negativePrompt = arguments.text("negative_prompt") ?? ""
        options.images = try arguments.int("num_images", 1...1000) ?? options.images
        options.steps = try arguments.int("num_inference_steps", 1...100_000) ?? options.steps
        options.guidanceScale = try arguments.number("guidance_scale") ?? options.guidanceScale
        options.seed = try arguments.seed()
        let threads = try arguments.int("threads", 0...256) ?? 0
        let files = try outputs(arguments.url("output")!, options.images)
        let words = try arguments.url("embedding").map { file in
            let embedding = try LearnedEmbedding(Files.read(file, most: 64 << 20), name: file.lastPathComponent)
            return [embedding]
        }
        let bundle = try ModelBundle(arguments.url("bundle")!)
        for embedding in words ?? [] where embedding.widths != bundle.widths {
            throw EdgeSdkError(
                "the embedding of \(embedding.token) is \(embedding.widths) wide and this model takes "
                    + "\(bundle.widths); use it with the model it was learned on")
        }
        let generator = Generator(try BundleText(bundle), loader: OrtLoader(threads: threads))
        let pictures = try generator.pictures(
            arguments.text("prompt")!, words: (words ?? []).map(\.word), options: options)
        for (file, picture) in zip(files, pictures) {
            let photo = Photo(width: picture.side, height: picture.side, rgb: picture.rgb)
            try WholeFile.write(PhotoFile.png(photo), to: file)
            if !arguments.has("quiet") { print("wrote \(file.path)") }
        }
        return Main.done
    }

    /// The files of some pictures, checked before any is drawn.
    private static func outputs(_ output: URL, _ count: Int) throws -> [URL] {
        func isFolder(_ place: URL) -> Bool {
            var isFolder: ObjCBool = false
            return FileManager.default.fileExists(atPath: place.path, isDirectory: &isFolder) && isFolder.boolValue
        }
        let folder = output.deletingLastPathComponent(), suffix = output.pathExtension
        guard suffix.lowercased() == "png" else {
            throw EdgeSdkError("output is \(output.path); it must end in .png")
        }
        guard isFolder(folder) else {
            throw EdgeSdkError("output is \(output.path), but there is no folder \(folder.path); make it first")
        }
        let stem = output.deletingPathExtension().lastPathComponent
        let numbered = (0..<count).map { folder.appendingPathComponent("\(stem)-\($0).\(suffix)") }
        let files = count == 1 ? [output] : numbered
        if let taken = files.first(where: isFolder) {
            throw EdgeSdkError("output is \(taken.path), which is a folder; give the name of a file")
        }
        return files
    }
}
