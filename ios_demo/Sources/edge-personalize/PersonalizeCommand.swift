import EdgeBundle
import EdgeOrt
import EdgePhotos
import EdgeRuntime
import EdgeSystem
import EdgeZO
import Foundation

/// Learn a token from a folder of photos: the twin of `edge-sdk personalize --bundle`.
enum PersonalizeCommand: Command {
    static let usage = """
        edge-personalize [personalize] --bundle DIR --train_data_dir DIR --output_dir DIR [options]
               edge-personalize generate --bundle DIR --prompt TEXT --output FILE.png [options]
               edge-personalize verify --bundle DIR
               edge-personalize measure --bundle DIR --output RESULT.json [options]
        """
    static let about = "Learn a token from 3 to 5 photos on a quantized model, with forward passes only."
    static let options: [Option] =
        [
            Option(name: "bundle", value: "DIR", help: "a folder written by edge-sdk export", isRequired: true),
            Option(name: "train_data_dir", value: "DIR", help: "folder with the photos (PNG, JPEG)", isRequired: true),
            Option(name: "output_dir", value: "DIR", help: "folder of the run, new or to be resumed", isRequired: true),
            Option(
                name: "placeholder_token", value: "WORD",
                help: "word that will stand for the subject in prompts (default <subject>)"),
            Option(
                name: "initializer_token", value: "WORD",
                help:
                    "one known word to start from, such as dog (default: person for the embedded model, else required)"),
            Option(
                name: "learnable_property", value: "KIND",
                help: "object or style: chooses the training prompts (default object)"),
            Option(name: "num_vectors", value: "INT", help: "vectors that the word stands for (default 1)"),
            Option(
                name: "preset", value: "NAME",
                help: "fast or paper: settings of the method to start from (default fast)"),
            Option(
                name: "max_train_steps", value: "INT|auto",
                help: "updates of the token (default: the preset's); auto: until the loss on held-out draws is flat"),
            Option(
                name: "max_batch", value: "INT", help: "rows per call of the denoiser; changes results by rounding only"
            ),
            Option(
                name: "eval_draws", value: "INT",
                help: "draws for the loss before and after, which training never uses (default: the bundle's)"),
            Option(
                name: "checkpointing_steps", value: "INT",
                help: "steps between checkpoints (default: about 150 forward passes)"),
            Option(name: "seed", value: "INT", help: "seed of every random number (default 0)"),
            Option(
                name: "resume_from_checkpoint", value: "latest|PATH",
                help: "resume an interrupted run, with the same command otherwise"),
            Option(name: "no_center_crop", kind: .flag, help: "squeeze photos to a square instead of cropping them"),
            Option(name: "threads", value: "INT", help: "threads of the runtime; 0 lets it choose (default 0)"),
            Option(name: "quiet", kind: .flag, help: "print nothing but errors"),
        ]
        + method.map { one in
            let isPair = one.name == "timestep_range"
            return Option(
                name: one.name, kind: isPair ? .words(2) : .text, value: isPair ? "LO HI" : "VALUE", help: one.help)
        }

    /// The method's settings that a command line may change.
    private static var method: [ZoConfig.Option] {
        ZoConfig.options.filter { $0.onCommandLine && $0.name != "max_train_steps" }
    }

    static func run(_ arguments: Arguments) async throws -> Int32 {
        var options = try fitOptions(arguments)
        let isQuiet = arguments.has("quiet")
        let notify = { (line: String) in if !isQuiet { Terminal.write(line) } }
        let (source, output) = (arguments.url("train_data_dir")!, arguments.url("output_dir")!)
        let threads = try arguments.int("threads", 0...256) ?? 0
        let bundle = try ModelBundle(arguments.url("bundle")!)
        let photos = try PhotoFolder(source, resolution: bundle.manifest.resolution)
        let given = arguments.text("resume_from_checkpoint")
        let folder = try RunFolder(output, resuming: given)
        defer { folder.unlock() }
        let resume = try folder.resume(given, notify)
        photos.notices.forEach(notify)
        notify("learning from \(photos.photos.count) photo(s)")

        let stop = StopSignal()
        options.checkpoint = { bytes in try folder.save(checkpoint: bytes) }
        let progress = ProgressLines(isQuiet: isQuiet)
        options.onProgress = { progress.stage($0) }
        options.resume = resume?.bytes
        let personalizer = Personalizer(bundle, OrtLoader(threads: threads))
        let learning = personalizer.fit(
            photos.photos, placeholder: arguments.text("placeholder_token") ?? "<subject>",
            initializer: arguments.text("initializer_token"), options: options)
        let peak = MemoryPeak(every: 0.05)
        let run = Task { () throws -> Step? in
            var last: Step?
            var wasClamped = false
            for try await step in learning {
                if last == nil { await personalizer.notices.forEach(notify) }
                progress.step(step)
                if step.clamped, !wasClamped {
                    wasClamped = true
                    notify("step \(step.step): the token reached the vocabulary's largest norm and is kept there")
                }
                last = step
            }
            return last
        }
        stop.onSignal { run.cancel() }
        let last: Step?
        do { last = try await run.value } catch let error as NonFiniteLossError {
            let file = try await folder.save(embedding: personalizer.embedding())
            throw EdgeSdkError(
                "\(error); the last good token is in \(file.path), start a new run with a smaller learning_rate or "
                    + "zo_mu")
        }
        guard let lossFinal = await personalizer.lossFinal else {
            let taken = last?.step ?? resume?.step ?? 0
            let isSaved = folder.checkpoints.first?.step == taken
            let how =
                isSaved
                ? "go on with the same command and --resume_from_checkpoint latest"
                : "start again with the same command"
            Terminal.write("edge-personalize: stopped after step \(taken)\(isSaved ? ", saved" : ""); \(how)")
            throw Cancelled()
        }
        peak.end()
        let learned = try await personalizer.embedding()
        let file = try folder.save(embedding: learned)
        let record = RunRecord(
            bundle: bundle, options: options, arguments: arguments, account: try await personalizer.account(),
            resumed: resume?.step ?? 0,
            lossInitial: await personalizer.lossInitial ?? .nan, lossFinal: lossFinal, memory: peak.value,
            photos: photos, version: try OrtLibrary.load().version)
        try folder.save(record: record.json)
        if !isQuiet { print("\(record.summary)\nwrote \(file.path)") }
        return Main.done
    }

    private static func fitOptions(_ arguments: Arguments) throws -> FitOptions {
        var options = FitOptions()
        if let preset = try arguments.choice("preset", FitOptions.Preset.allCases.map(\.rawValue)) {
            options.preset = FitOptions.Preset(rawValue: preset)!
        }
        switch arguments.text("max_train_steps") {
        case nil: break
        case "auto": options.maxTrainSteps = .auto
        default: options.maxTrainSteps = .count(try arguments.int("max_train_steps", 1...1_000_000_000)!)
        }
        options.seed = try arguments.seed()
        options.numVectors = try arguments.int("num_vectors", 1...64) ?? 1
        options.maxBatch = try arguments.int("max_batch", 1...4096)
        options.evalDraws = try arguments.int("eval_draws", 1...65_536)
        options.checkpointingSteps = try arguments.int("checkpointing_steps", 1...1_000_000_000)
        options.learnableProperty = try arguments.choice("learnable_property", ["object", "style"]) ?? "object"
        options.centerCrop = !arguments.has("no_center_crop")
        for one in method {
            guard let words = arguments.words(one.name) else { continue }
            let values = words.map(value)
            let setting = one.name == "timestep_range" ? Json.list(values) : values[0]
            _ = try ZoConfig().with(one.name, setting)  // refused before a file is opened
            options.settings[one.name] = setting
        }
        return options
    }

    /// A number, or else a word.
    private static func value(_ word: String) -> Json {
        if let value = try? Json.parse(word.utf8), value.double != nil { return value }
        return .text(word)
    }
}
