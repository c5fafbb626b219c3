import EdgeSystem
import EdgeZO
import Foundation

/// The text side of a bundle: for SDXL the rows of both tokenizers side by side.
public struct BundleText: Sendable {
    public let bundle: ModelBundle
    public let tokenizers: [Tokenizer]

    /// - Throws: `EdgeSdkError`: a tokenizer cannot be read, or its marks are not those of the manifest.
    public init(_ bundle: ModelBundle) throws {
        self.bundle = bundle
        tokenizers = try zip(bundle.manifest.embedding, bundle.manifest.tokens).map { part, tokens in
            let folder = bundle.folder.appendingPathComponent(tokens.folder)
            let tokenizer = try Tokenizer(folder: folder, vocabSize: part.vocabSize, length: tokens.length)
            guard (tokenizer.bos, tokenizer.eos, tokenizer.pad) == (tokens.bos, tokens.eos, tokens.pad) else {
                throw EdgeSdkError(
                    "\(folder.path) marks beginning, end and padding with \(tokenizer.bos), \(tokenizer.eos), "
                        + "\(tokenizer.pad), and manifest.json says otherwise; \(Manifest.again)")
            }
            return tokenizer
        }
    }

    /// A prompt as a row of ids, see ``Tokenizer/row(_:placeholders:)``.
    public func row(_ prompt: String, placeholders: [(word: String, vectors: Int)] = []) throws -> [Int] {
        try tokenizers.flatMap { try $0.row(prompt, placeholders: placeholders) }
    }

    /// - Throws: `EdgeSdkError`: it is not one word, or already a word of a vocabulary.
    public func checkPlaceholder(_ placeholder: String) throws {
        guard !placeholder.isEmpty, !placeholder.unicodeScalars.contains(where: \.isSpace) else {
            throw EdgeSdkError("placeholder_token is '\(shown(placeholder))'; it must be one word without spaces")
        }
        for tokenizer in tokenizers { try tokenizer.checkPlaceholder(placeholder) }
    }

    /// The initializer's rows of all tables, once per vector: K D numbers, not divided by the scale.
    ///
    /// - Throws: `EdgeSdkError`: the initializer is not exactly one token.
    public func initialEmbedding(_ initializer: String, numVectors: Int) throws -> [Float] {
        let vector = try tokenizers.enumerated().flatMap { i, tokenizer in
            try bundle.vector(encoder: i, word: tokenizer.word(initializer))
        }
        return (0..<numVectors).flatMap { _ in vector }
    }

    /// The manifest's training prompts of a kind, with the placeholder in place.
    ///
    /// - Parameter kind: `object` or `style`; the embedded model has prompts of its own.
    /// - Throws: `EdgeSdkError`: the bundle has none of this kind.
    public func trainingPrompts(_ kind: String, placeholder: String) throws -> [String] {
        let prompts = bundle.manifest.prompts
        let name = bundle.isPocket ? "pocket" : kind
        guard let found = prompts[name] else {
            throw EdgeSdkError(
                "\(bundle.folder.path) has no prompts for \(shown(name)); it has "
                    + "\(prompts.keys.sorted().joined(separator: ", "))")
        }
        return found.map { $0.text.replacingOccurrences(of: "{}", with: placeholder) }
    }
}

/// Those of some words that a prompt has, in any letters; a word inside of a longer one does not count.
public func words(in prompt: String, of words: [String]) -> [String] {
    let text = fold(prompt)
    let found = Set(places(of: words.map { fold($0) }, in: text).map { Letters(text[$0]) })
    return words.filter { found.contains(fold($0)) }
}
