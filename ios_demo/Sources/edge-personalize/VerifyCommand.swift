import EdgeBundle
import EdgeOrt
import EdgeZO
import Foundation

/// A bundle against its manifest and its golden vectors.
enum VerifyCommand: Command {
    static let usage = "edge-personalize verify --bundle DIR"
    static let about = "Check a bundle's files, then its golden vectors on ONNX Runtime. Exit status 1 beyond a bound."
    static let options = [
        Option(name: "bundle", value: "DIR", help: "a folder written by edge-sdk export", isRequired: true),
        Option(name: "threads", value: "INT", help: "threads of the runtime; 0 lets it choose (default 0)"),
        Option(name: "quiet", kind: .flag, help: "print nothing but what is beyond its bound"),
    ]

    static func run(_ arguments: Arguments) async throws -> Int32 {
        let threads = try arguments.int("threads", 0...256) ?? 0
        let bundle = try ModelBundle(arguments.url("bundle")!)
        let isQuiet = arguments.has("quiet")
        if !bundle.leftovers.isEmpty, !isQuiet {
            let more = bundle.leftovers.count > 10 ? " and \(bundle.leftovers.count - 10) more" : ""
            Terminal.write(
                "note: not part of the bundle and not opened: \(bundle.leftovers.prefix(10).joined(separator: ", "))\(more)"
            )
        }
        let outcomes = try GoldenCases(bundle).run(OrtLoader(threads: threads), runtime: "onnxruntime")
        for one in outcomes where !(isQuiet && one.isGood) {
            let (worst, bound) = (String(format: "%.1e", one.worst), String(format: "%g", one.bound))
            print(
                "\(one.graph): \(one.isGood ? "ok" : "FAILED"), worst relative difference \(worst) in \(one.cases) case(s), bound \(bound)"
            )
        }
        return outcomes.allSatisfy(\.isGood) ? Main.done : Main.failedCheck
    }
}
