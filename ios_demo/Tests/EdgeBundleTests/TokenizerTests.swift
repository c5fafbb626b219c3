import EdgeBundle
import EdgeSystem
import EdgeZO
import Foundation
import TestSupport
import XCTest

final class TokenizerTests: XCTestCase {
    private func tokenizers(_ golden: Json) throws -> [String: Tokenizer] {
        var made: [String: Tokenizer] = [:]
        for (name, one) in golden.at("tokenizers").entries! {
            let folder = Golden.folder.appendingPathComponent(one.at("folder").string!).standardizedFileURL
            made[name] = try Tokenizer(
                folder: folder, vocabSize: one.at("vocab_size").integer, length: one.at("length").integer)
            XCTAssertEqual(
                [made[name]!.bos, made[name]!.eos, made[name]!.pad], ["bos", "eos", "pad"].map { one.at($0).integer })
        }
        return made
    }

    func testTextsRowsAndWordsEqualPythons() throws {
        let golden = try Golden.json("tokens.json")
        for (name, tokenizer) in try tokenizers(golden) {
            for one in golden.at("texts").array {
                let text = one.at("text").string!
                XCTAssertEqual(try tokenizer.words(text), one.at(name).integers, "\(name): \(text.debugDescription)")
            }
            for one in golden.at("rows").array {
                let placeholders = one.at("placeholders").array.map { ($0.array[0].string!, $0.array[1].integer) }
                let row = try? tokenizer.row(one.at("prompt").string!, placeholders: placeholders)
                XCTAssertEqual(row, one.at(name).isNull ? nil : one.at(name).integers, one.at("prompt").string!)
            }
            for one in golden.at("single_words").array {
                XCTAssertEqual(try? tokenizer.word(one.at("word").string!), one.at(name).int, one.at("word").string!)
            }
            for one in golden.at("placeholders").array {
                let word = one.at("placeholder").string!
                XCTAssertEqual((try? tokenizer.checkPlaceholder(word)) != nil, one.at(name).boolean, word)
            }
        }
    }

    func testAddedTokensAreReadFromEveryFileThatProgramsWrite() throws {
        let usual = Golden.folder.appendingPathComponent("bundle/tokenizer")
        for one in try Golden.json("tokens.json").at("folders").array {
            let folder = try temporaryFolder(self)
            for name in ["vocab.json", "merges.txt"] {
                try FileManager.default.copyItem(
                    at: usual.appendingPathComponent(name), to: folder.appendingPathComponent(name))
            }
            for (name, content) in one.at("files").entries! {
                try Data(content.written().utf8).write(to: folder.appendingPathComponent(name))
            }
            let tokenizer = try Tokenizer(folder: folder, vocabSize: 640, length: 16)
            let name = one.at("name").string!
            XCTAssertEqual(tokenizer.pad, one.at("pad").integer, name)
            for text in one.at("texts").array {
                let ids = text.at("ids").integers
                if ids.allSatisfy({ $0 < 640 }) {
                    XCTAssertEqual(
                        try tokenizer.words(text.at("text").string!), ids, "\(name): \(text.at("text").string!)")
                }
            }
            for word in one.at("placeholders").array {
                let placeholder = word.at("placeholder").string!
                XCTAssertEqual(
                    (try? tokenizer.checkPlaceholder(placeholder)) != nil, word.at("free").boolean, placeholder)
            }
        }
    }

    func testADamagedFolderIsRefusedInOneLine() throws {
        let damage: [(String, String)] = [
            ("vocab.json", "{\"a\": 1, \"a\": 2}"), ("vocab.json", "{\"a\": \"b\"}"), ("vocab.json", "[]"),
            ("merges.txt", "one two three\n"), ("tokenizer_config.json", "{\"pad_token\": 3}"),
            ("tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"y\"}}}"),
        ]
        for (name, text) in damage {
            let folder = try copyOfBundle(self).appendingPathComponent("tokenizer")
            try Data(text.utf8).write(to: folder.appendingPathComponent(name))
            XCTAssertThrowsError(try Tokenizer(folder: folder, vocabSize: 640, length: 16), text) {
                XCTAssertTrue($0 is EdgeSdkError && !"\($0)".contains("\n"), "\($0)")
            }
        }
    }

    func testWordsInAPromptAreFoundInAnyLetters() {
        XCTAssertEqual(
            words(in: "a <MUG> and caf\u{65}\u{301}", of: ["<mug>", "caf\u{e9}", "<style>"]), ["<mug>", "caf\u{e9}"])
        XCTAssertEqual(words(in: "sksdog", of: ["sks", "sksdog"]), ["sksdog"])
    }
}
