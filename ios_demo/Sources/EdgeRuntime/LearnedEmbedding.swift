import EdgeBundle
import EdgeSystem
import EdgeZO
import Foundation

/// A placeholder token and its vectors, and `learned_embeds.safetensors` in and out: the twin of `edge_sdk/embedding.py`.
///
/// A file has one tensor, its key the placeholder; for SDXL two, `clip_l` and `clip_g`, and the placeholder in the
/// metadata. Stock diffusers reads it.
public struct LearnedEmbedding: Equatable, Sendable {
    public let token: String
    /// K D numbers; for SDXL both encoders' parts side by side in each vector.
    public let vectors: [Float]
    /// Of the parts of a vector, one a text encoder.
    public let widths: [Int]
    /// Where it comes from; never anything about the photos.
    public let metadata: [String: String]

    private static let xlKeys = ["clip_l", "clip_g"]
    private static let webKey = "emb_params"  // of web UIs, which take the name of the file for the word

    /// - Throws: `EdgeSdkError` for a number that is not finite, or a count that the widths do not divide.
    public init(token: String, vectors: [Float], widths: [Int], metadata: [String: String] = [:]) throws {
        let width = widths.reduce(0, +)
        guard width > 0, !vectors.isEmpty, vectors.count % width == 0, vectors.allSatisfy(\.isFinite) else {
            throw EdgeSdkError("the embedding of \(token) must be finite numbers, a multiple of \(width)")
        }
        (self.token, self.vectors, self.widths, self.metadata) = (token, vectors, widths, metadata)
    }

    /// Vectors of the token.
    public var count: Int { vectors.count / widths.reduce(0, +) }

    /// As the generator takes it.
    public var word: LearnedWord { LearnedWord(token: token, vectors: vectors) }

    /// The file.
    public func toBytes() -> [UInt8] {
        var about = metadata
        about["format"] = "pt"
        if widths.count > 1 { about["placeholder_token"] = token }
        let whole = widths.reduce(0, +), names = widths.count > 1 ? Self.xlKeys : [token]
        var column = 0
        let tensors = zip(names, widths).map { name, width in
            let part = (0..<count).flatMap { vectors[($0 * whole + column)..<($0 * whole + column + width)] }
            column += width
            return (name: name, tensor: Safetensors.Tensor(part, shape: [count, width]))
        }
        return Safetensors(metadata: about.map { ($0.key, $0.value) }, tensors: tensors).sortedBytes()
    }

    /// Writes the file whole or not at all.
    public func write(to file: URL) throws {
        do { try Data(toBytes()).write(to: file, options: .atomic) } catch {
            throw EdgeSdkError("\(file.path) cannot be written (\(error.localizedDescription)); is there room for it?")
        }
    }

    /// Reads a file of diffusers' or a web UI's form.
    ///
    /// - Parameter name: of the file, for messages; a web UI's form takes it for the word.
    /// - Throws: `EdgeSdkError`, one line: a pickle, damaged, other tensors, or a number that is not finite.
    public init(_ bytes: [UInt8], name: String) throws {
        let stem = (name as NSString).deletingPathExtension
        guard (name as NSString).pathExtension.lowercased() == "safetensors" else {
            throw EdgeSdkError("\(name) is no .safetensors file; convert it to one and give that")
        }
        let file: Safetensors
        do { file = try Safetensors(bytes) } catch {
            throw EdgeSdkError("\(name) is cut short or damaged (\(error)); download it again")
        }
        let isXL = Set(file.tensors.map(\.name)) == Set(Self.xlKeys)
        guard file.tensors.count == 1 || isXL else {
            throw EdgeSdkError(
                "\(name) holds \(file.tensors.count) tensors; an embedding file holds exactly one, for SDXL clip_l and clip_g"
            )
        }
        let key = isXL ? file.text("placeholder_token") ?? Self.webKey : file.tensors[0].name
        let token = key == Self.webKey ? stem : key
        guard token.contains(where: { !$0.isWhitespace }),
            !token.unicodeScalars.contains(where: { $0.properties.generalCategory == .control })
        else { throw EdgeSdkError("\(name) names no word; the key of its tensor must be the placeholder token") }

        let parts = try (isXL ? Self.xlKeys : [file.tensors[0].name]).map { key in
            let tensor = file[key]!, shape = tensor.shape.count == 1 ? [1] + tensor.shape : tensor.shape
            guard shape.count == 2, let values = tensor.floats, !values.isEmpty, values.allSatisfy(\.isFinite) else {
                throw EdgeSdkError(
                    "\(name) must hold a (K, D) tensor of finite numbers; it holds shape \(tensor.shape)")
            }
            return (rows: shape[0], width: shape[1], values: values)
        }
        guard Set(parts.map(\.rows)).count == 1 else {
            throw EdgeSdkError(
                "\(name) holds \(parts.map { String($0.rows) }.joined(separator: " and ")) vectors; both need as many")
        }
        let vectors = (0..<parts[0].rows).flatMap { k in
            parts.flatMap { $0.values[(k * $0.width)..<((k + 1) * $0.width)] }
        }
        let metadata = Dictionary(file.metadata.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
        try self.init(token: token, vectors: vectors, widths: parts.map(\.width), metadata: metadata)
    }
}
