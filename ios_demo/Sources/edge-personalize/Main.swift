import EdgeSystem
import EdgeZO
import Foundation

/// `edge-personalize`: parse, run one command, turn every mistake into one line.
@main
enum Main {
    /// Exit statuses; `edge-sdk` has the same.
    static let done: Int32 = 0
    static let failedCheck: Int32 = 1
    static let userError: Int32 = 2
    static let cancelled: Int32 = 130

    static func main() async {
        var words = Array(CommandLine.arguments.dropFirst())
        let commands: [String: any Command.Type] = [
            "personalize": PersonalizeCommand.self, "generate": GenerateCommand.self, "verify": VerifyCommand.self,
            "measure": MeasureCommand.self,
        ]
        do {
            var command: any Command.Type = PersonalizeCommand.self  // also where none is named
            if let first = words.first, !first.hasPrefix("-") {
                guard let named = commands[first] else {
                    throw EdgeSdkError(
                        "\(quoted(first)) is no command; give one of \(commands.keys.sorted().joined(separator: ", "))")
                }
                command = named
                words.removeFirst()
            }
            let arguments = try Arguments(words, command.options)
            if arguments.isHelp {
                print(Arguments.help(command))
                exit(done)
            }
            exit(try await command.run(arguments))
        } catch is Cancelled {
            exit(cancelled)
        } catch {
            Terminal.write("edge-personalize: error: \(error)")
            exit(userError)
        }
    }
}

/// A command of the program.
protocol Command {
    static var usage: String { get }
    static var about: String { get }
    static var options: [Option] { get }

    /// - Returns: the exit status.
    static func run(_ arguments: Arguments) async throws -> Int32
}

/// The user stopped the command, and was told how to go on.
struct Cancelled: Error {}

/// Lines for the user.
enum Terminal {
    /// One line on stderr; characters that a terminal takes for commands become "?".
    static func write(_ line: String) {
        let words = line.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        let plain = words.unicodeScalars.map { scalar in
            switch scalar.properties.generalCategory {
            case .control, .format, .surrogate, .lineSeparator, .paragraphSeparator, .unassigned: "?"
            default: String(scalar)
            }
        }
        FileHandle.standardError.write(Data((plain.joined() + "\n").utf8))
    }
}
