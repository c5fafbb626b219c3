import EdgeSystem
import EdgeZO
import Foundation

/// A token that is looked for in a text before it is cut into words.
struct AddedToken: Sendable {
    var content: String
    var special = false
    var normalized: Bool?  // nil: it is unless the token is special
    var singleWord = false

    init(special content: String) {
        self.content = content
        special = true
    }

    /// A text or an object of a file.
    init?(_ value: Json) {
        if let content = value.string {
            self.content = content
        } else if let content = value["content"]?.string {
            self.content = content
            special = value["special"]?.bool ?? false
            normalized = value["normalized"]?.bool
            singleWord = value["single_word"]?.bool ?? false
        } else {
            return nil
        }
    }
}

/// The folder of CLIP's tokenizer, read as transformers 5 reads it: the twin of edge_sdk/diffusion/tokenizer_folder.py.
struct TokenizerFolder {
    let vocabulary: [String: Int]
    /// Pairs of tokens with a space between, the most frequent first.
    let merges: [String]
    /// Tokens beside the vocabulary, in the order in which they are added.
    let added: [AddedToken]
    /// The word that fills prompts up.
    let pad: String

    private static let mostBytes = 64 << 20
    private static let mostID = 1 << 24
    private static let again = "download the model again"
    /// The special tokens by name, in the order in which they are added, and what they are where no file says.
    private static let names: KeyValuePairs<String, String?> = [
        "bos_token": Tokenizer.begin, "eos_token": Tokenizer.end, "unk_token": Tokenizer.end, "sep_token": nil,
        "pad_token": Tokenizer.end, "cls_token": nil, "mask_token": nil,
    ]
    private static let further = ["extra_special_tokens", "additional_special_tokens"]

    private static let flags = ["single_word", "lstrip", "rstrip", "normalized", "special"].map {
        ($0, Kind.maybe(.bool))
    }
    private static let token = Kind.entries([("content", .text)] + flags)
    private static let word = Kind.either([.text, token])
    private static let ids = Kind.named(.whole(0...mostID))
    private static let specialEntries: [(String, Kind)] =
        names.map { ($0.key, .maybe(.either([.text, token, .null]))) }
        + further.map { ($0, .maybe(.either([.many(word, 0...1 << 16), .named(word), .null]))) }
    private static let config = Kind.entries(
        specialEntries + [("added_tokens_decoder", .maybe(.either([.named(token), .null])))])
    private static let whole = Kind.entries([
        (
            "model",
            .entries([
                ("type", .maybe(.oneOf(["BPE", "Unigram"]))), ("vocab", ids),
                ("merges", .maybe(.many(.either([.text, .many(.text, 2...2)])))),
            ])
        ),
        ("added_tokens", .maybe(.many(.entries([("id", .whole(0...mostID)), ("content", .text)] + flags)))),
    ])

    init(_ folder: URL) throws {
        let config = try Self.read(folder, "tokenizer_config.json", Self.config) ?? .object([])
        let listed = config["added_tokens_decoder"]?.entries
        var sources = [config]
        if listed == nil {
            let map = try Self.read(folder, "special_tokens_map.json", .entries(Self.specialEntries))
            sources += map.map { [$0] } ?? []
        }
        let (named, unnamed) = Self.special(sources)
        pad = named.last { $0.name == "pad_token" }?.token?.content ?? Tokenizer.end

        let content = try Self.read(folder, "tokenizer.json", Self.whole)
        var byNumber: [Int: AddedToken] = [:]
        for (number, value) in listed ?? [] {
            guard let id = Int(number), number.allSatisfy(\.isASCII), (0...Self.mostID).contains(id) else {
                throw EdgeSdkError(
                    "\(folder.path)/tokenizer_config.json cannot be used: added_tokens_decoder has the number "
                        + "'\(shown(number))'; \(Self.again)")
            }
            byNumber[id] = AddedToken(value)
        }
        let specials = named.compactMap(\.token) + unnamed
        if listed == nil {
            let contents = Set(specials.map { Letters($0.content.unicodeScalars) })
            for (word, number) in try Self.read(folder, "added_tokens.json", Self.ids)?.entries ?? [] {
                guard var token = AddedToken(Json.text(word)), let id = number.int else { continue }
                token.special = contents.contains(Letters(word.unicodeScalars))
                token.normalized = !token.special
                byNumber[id] = token
            }
            for value in content?["added_tokens"]?.items ?? [] {
                if let id = value["id"]?.int { byNumber[id] = AddedToken(value) }
            }
        }
        added = Self.ordered(byNumber, named: named.compactMap(\.token), specials)
        (vocabulary, merges) = try content.map(Self.ofContent) ?? Self.ofFiles(folder)
    }

    /// The special tokens of files with a name, and those without.
    private static func special(_ sources: [Json]) -> (
        named: [(name: String, token: AddedToken?)], unnamed: [AddedToken]
    ) {
        var unnamed: [AddedToken] = []
        for source in sources {
            let lists = further.compactMap { source[$0] }.map { $0.items ?? $0.entries?.map(\.value) ?? [] }
            unnamed += (lists.first { !$0.isEmpty } ?? []).compactMap(AddedToken.init)
        }
        let named = names.map { name, usual in
            let value = sources.compactMap { $0[name] }.last
            return (name: name, token: value.map(AddedToken.init) ?? usual.map(AddedToken.init(special:)))
        }
        func asSpecial(_ token: AddedToken) -> AddedToken {
            var token = token
            token.special = true
            return token
        }
        return (named.map { ($0.name, $0.token.map(asSpecial)) }, unnamed.map(asSpecial))
    }

    /// Tokens in the order of their numbers, then the special ones that are not among them.
    private static func ordered(
        _ byNumber: [Int: AddedToken], named: [AddedToken], _ specials: [AddedToken]
    ) -> [AddedToken] {
        var tokens: [AddedToken] = []
        var place: [Letters: Int] = [:]
        func letters(_ token: AddedToken) -> Letters { Letters(token.content.unicodeScalars) }
        for (_, token) in byNumber.sorted(by: { $0.key < $1.key }) {
            if let at = place[letters(token)] {
                tokens[at] = token
            } else {
                place[letters(token)] = tokens.count
                tokens.append(token)
            }
        }
        for token in named { if let at = place[letters(token)] { tokens[at].special = true } }
        for token in specials where place[letters(token)] == nil {
            place[letters(token)] = tokens.count
            tokens.append(token)
        }
        return tokens
    }

    private static func ofContent(_ content: Json) -> ([String: Int], [String]) {
        let model = content["model"] ?? .null
        let merges = (model["merges"]?.items ?? []).map { merge in
            merge.string ?? (merge.items ?? []).compactMap(\.string).joined(separator: " ")
        }
        return (vocabulary(model["vocab"] ?? .null), merges)
    }

    private static func ofFiles(_ folder: URL) throws -> ([String: Int], [String]) {
        let bytes = try Files.read(folder.appendingPathComponent("merges.txt"), most: mostBytes)
        let lines = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline)
        let merges = try lines.filter { !$0.allSatisfy(\.isWhitespace) && !$0.hasPrefix("#version") }.map { line in
            let pair = line.split(whereSeparator: \.isWhitespace)
            guard pair.count == 2 else {
                throw EdgeSdkError(
                    "\(folder.path)/merges.txt has the line '\(shown(String(line)))', not two tokens; \(again)")
            }
            return "\(pair[0]) \(pair[1])"
        }
        guard let words = try read(folder, "vocab.json", ids) else {
            throw EdgeSdkError("\(folder.path) has neither tokenizer.json nor vocab.json; \(again)")
        }
        return (vocabulary(words), merges)
    }

    private static func vocabulary(_ value: Json) -> [String: Int] {
        (value.entries ?? []).reduce(into: [:]) { $0[$1.key] = $1.value.int }
    }

    /// The checked object of a file, or nil where there is none.
    private static func read(_ folder: URL, _ name: String, _ kind: Kind) throws -> Json? {
        let file = folder.appendingPathComponent(name)
        guard FileManager.default.fileExists(atPath: file.path) else { return nil }
        let bytes = try Files.read(file, most: mostBytes)
        do {
            let value = try Json.parse(bytes)
            try kind.check(value)
            return value
        } catch {
            throw EdgeSdkError("\(file.path) cannot be used (\(error)); \(again)")
        }
    }
}
