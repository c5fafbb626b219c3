import EdgeSystem
import EdgeZO
import Foundation

/// CLIP's byte-pair encoding from a bundle's tokenizer folder: the twin of edge_sdk/diffusion/tokenizer.py.
public struct Tokenizer: Sendable {
    static let begin = "<|startoftext|>"
    static let end = "<|endoftext|>"
    private static let last = "</w>"  // of a word's last letter

    /// Ids of the marks that begin, end and fill up a row.
    public let bos: Int
    public let eos: Int
    public let pad: Int
    /// Rows of the embedding table; a placeholder's vectors take the ids that follow.
    public let vocabSize: Int
    /// Tokens of a row, the marks included.
    public let length: Int

    private let vocabulary: [String: Int]
    private let ranks: [String: Int]  // of a pair of tokens, "a b"
    private let added: [Letters: Int]
    private let raw: Stage
    private let normalized: Stage
    private let folded: Set<Letters>

    /// Added tokens that are looked for in one form of a text.
    private struct Stage: Sendable {
        var tokens: [Letters: AddedToken] = [:]
    }

    /// Read a folder: tokenizer.json, or else vocab.json and merges.txt, with all added tokens.
    ///
    /// - Throws: `EdgeSdkError`: a file is missing or damaged, or its marks are not within the table.
    public init(folder: URL, vocabSize: Int, length: Int) throws {
        let content = try TokenizerFolder(folder)
        vocabulary = content.vocabulary
        ranks = Dictionary(content.merges.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        var ids: [Letters: Int] = [:]
        var highest = vocabulary.count - 1
        var stages = (raw: Stage(), normalized: Stage())
        for token in content.added {
            let letters = Letters(token.content.unicodeScalars)
            let id = vocabulary[token.content] ?? highest + 1
            ids[letters] = id
            highest = max(highest, id)
            if token.normalized ?? !token.special {
                stages.normalized.tokens[Self.prepared(token.content)] = token
            } else {
                stages.raw.tokens[letters] = token
            }
        }
        added = ids
        (raw, normalized) = stages
        folded = Set(content.added.map { fold($0.content) })
        self.vocabSize = vocabSize
        self.length = length
        func mark(_ word: String) throws -> Int {
            guard let id = ids[Letters(word.unicodeScalars)] ?? content.vocabulary[word], id < vocabSize else {
                throw EdgeSdkError(
                    "the tokenizer in \(folder.path) does not know \(shown(word)); it is not CLIP's, or not this text "
                        + "encoder's")
            }
            return id
        }
        (bos, eos, pad) = (try mark(Self.begin), try mark(Self.end), try mark(content.pad))
    }

    /// Token ids of a text without the marks of its beginning and end.
    ///
    /// - Throws: `EdgeSdkError`: a token is beyond the table.
    public func words(_ text: String) throws -> [Int] { try words(Letters(text.unicodeScalars)) }

    private func words(_ letters: Letters) throws -> [Int] {
        let ids = around(raw, letters) { piece in
            around(normalized, Self.prepared(String(piece))) { Self.split($0).flatMap(pieces) }
        }
        if let beyond = ids.max(), beyond >= vocabSize {
            throw EdgeSdkError(
                "the tokenizer makes token \(beyond) of '\(shown(String(letters)))', and the text encoder knows "
                    + "\(vocabSize); they are not of one model")
        }
        return ids
    }

    /// The id of a word that is one token.
    ///
    /// - Throws: `EdgeSdkError`: it is not exactly one.
    public func word(_ initializer: String) throws -> Int {
        let ids = try words(initializer)
        guard ids.count == 1 else {
            throw EdgeSdkError(
                "initializer_token '\(shown(initializer))' makes \(ids.count) tokens; it must be one word that the "
                    + "model knows as a single token, such as 'person' or 'dog'")
        }
        return ids[0]
    }

    /// Whether a word is a token of its own, of the vocabulary or added to it, in any letters.
    public func knows(_ word: String) throws -> Bool {
        let ids = try words(word)
        return folded.contains(fold(word)) || (ids.count == 1 && ids[0] != eos)
    }

    /// - Throws: `EdgeSdkError`: the placeholder is already a word of the vocabulary.
    public func checkPlaceholder(_ placeholder: String) throws {
        if try knows(placeholder) {
            throw EdgeSdkError(
                "placeholder_token '\(shown(placeholder))' is already a word of the model; choose one that is not, "
                    + "such as '<subject>'")
        }
    }

    /// A prompt as a row of `length` ids, padded and cut as CLIP's tokenizer does.
    ///
    /// - Parameter placeholders: words and the numbers of their vectors, which take the ids `vocabSize`,
    ///   `vocabSize + 1`, ... in this order. A prompt may have the word in other letters.
    /// - Throws: `EdgeSdkError`: a placeholder's vectors do not fit into the row.
    public func row(_ prompt: String, placeholders: [(word: String, vectors: Int)] = []) throws -> [Int] {
        var idsOf: [Letters: [Int]] = [:]
        var first = vocabSize
        for (word, vectors) in placeholders {
            idsOf[fold(word)] = Array(first..<first + vectors)
            first += vectors
        }
        let text = prompt.composed
        let lower = fold(text)
        var ids: [Int] = []
        var end = 0
        for place in places(of: Array(idsOf.keys), in: lower) {
            ids += try words(between: text[end..<place.lowerBound])
            ids += idsOf[Letters(lower[place])]!
            end = place.upperBound
        }
        ids += try words(between: text[end...])
        let room = length - 2
        let lost = Set(ids.dropFirst(room))
        for (word, _) in placeholders where !lost.isDisjoint(with: idsOf[fold(word)]!) {
            throw EdgeSdkError(
                "the prompt '\(shown(prompt))' is \(ids.count) tokens long and \(shown(word)) would be cut off; the "
                    + "model takes \(room), use a shorter prompt or fewer vectors")
        }
        let row = [bos] + ids.prefix(room) + [eos]
        return row + Array(repeating: pad, count: length - row.count)
    }

    private func words(between piece: ArraySlice<Unicode.Scalar>) throws -> [Int] {
        piece.allSatisfy(\.isSpace) ? [] : try words(Letters(piece))
    }

    /// Ids of a text that is cut at the added tokens of a stage; what lies between is read by `inner`.
    private func around(_ stage: Stage, _ text: Letters, _ inner: (Letters) -> [Int]) -> [Int] {
        var ids: [Int] = []
        var end = 0
        for place in places(of: Array(stage.tokens.keys), in: text) {
            let token = stage.tokens[Letters(text[place])]!
            let before = text[..<place.lowerBound].last
            let after = text[place.upperBound...].first
            if token.singleWord, before?.isWordLetter ?? false || after?.isWordLetter ?? false { continue }
            ids += inner(Letters(text[end..<place.lowerBound])) + vectors(of: token.content)
            end = place.upperBound
        }
        return ids + inner(Letters(text[end...]))
    }

    /// The ids of a word that diffusers has saved as `word`, `word_1`, `word_2`, ..., one a vector.
    private func vectors(of word: String) -> [Int] {
        var ids: [Int] = []
        while let id = added[Letters((ids.isEmpty ? word : "\(word)_\(ids.count)").unicodeScalars)] { ids.append(id) }
        return ids
    }

    /// A text as CLIP prepares it: composed, each run of white space one space, every letter in lower case by itself.
    private static func prepared(_ text: String) -> Letters {
        var letters: Letters = []
        var previous: Unicode.Scalar?
        for letter in text.composed {
            if !letter.isSpace {
                letters += letter.properties.lowercaseMapping.unicodeScalars
            } else if previous?.isSpace != true {
                letters.append(" ")
            }
            previous = letter
        }
        return letters
    }

    private static let endings: [Letters] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].map {
        Letters($0.unicodeScalars)
    }

    /// A prepared text cut into words: `'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+`.
    private static func split(_ text: Letters) -> [ArraySlice<Unicode.Scalar>] {
        var words: [ArraySlice<Unicode.Scalar>] = []
        var at = 0
        while at < text.count {
            let rest = text[at...]
            let count: Int
            if let ending = endings.first(where: { rest.starts(with: $0) }) {
                count = ending.count
            } else if rest.first!.isLetter {
                count = rest.prefix(while: \.isLetter).count
            } else if rest.first!.isNumber {
                count = 1
            } else {
                count = rest.prefix { !$0.isSpace && !$0.isLetter && !$0.isNumber }.count
            }
            if count > 0 { words.append(rest.prefix(count)) }
            at += max(count, 1)
        }
        return words
    }

    /// Bytes as the visible letters that GPT-2's vocabularies have for them.
    private static let visible: [String] = {
        var next: UInt32 = 256
        return (0..<256).map { (byte: UInt32) in
            let isPlain = (33...126).contains(byte) || (161...172).contains(byte) || byte >= 174
            defer { next += isPlain ? 0 : 1 }
            return String(Unicode.Scalar(isPlain ? byte : next)!)
        }
    }()

    /// Byte-pair encoding of a word: the merge of the lowest rank among neighbours, the leftmost first.
    private func pieces(_ word: ArraySlice<Unicode.Scalar>) -> [Int] {
        var tokens = String(word).utf8.map { Self.visible[Int($0)] }
        tokens[tokens.count - 1] += Self.last
        tokens = tokens.map { vocabulary[$0] == nil ? Self.end : $0 }
        while true {
            let pairs = zip(tokens, tokens.dropFirst()).enumerated()
            let best = pairs.compactMap { i, pair in ranks["\(pair.0) \(pair.1)"].map { (rank: $0, place: i) } }
                .min { ($0.rank, $0.place) < ($1.rank, $1.place) }
            guard let place = best?.place else { break }
            tokens.replaceSubrange(place...place + 1, with: [tokens[place] + tokens[place + 1]])
        }
        return tokens.map { vocabulary[$0] ?? eos }
    }
}
