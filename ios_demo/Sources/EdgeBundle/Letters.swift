import Foundation

/// A text as Unicode scalars. Swift's strings are equal where their letters are canonically equivalent, and their
/// characters may be several scalars; a tokenizer must tell them apart as every other runtime does.
typealias Letters = [Unicode.Scalar]

extension String {
    /// The letters after composition (Unicode NFC).
    var composed: Letters { Letters(precomposedStringWithCanonicalMapping.unicodeScalars) }

    init(_ letters: some Sequence<Unicode.Scalar>) {
        var view = UnicodeScalarView()
        view.append(contentsOf: letters)
        self.init(view)
    }
}

extension Unicode.Scalar {
    var isSpace: Bool { properties.isWhitespace }

    /// General category L.
    var isLetter: Bool {
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
        default: false
        }
    }

    /// General category N.
    var isNumber: Bool {
        switch properties.generalCategory {
        case .decimalNumber, .letterNumber, .otherNumber: true
        default: false
        }
    }

    /// A letter of a word as `\w` has it.
    var isWordLetter: Bool {
        switch properties.generalCategory {
        case .nonspacingMark, .spacingMark, .enclosingMark, .connectorPunctuation: true
        default: isLetter || isNumber
        }
    }
}

/// A word as words are compared: composed, and in lower case as far as a letter stays one letter.
///
/// CLIP's tokenizer and the web UIs know no capitals, and file systems decompose letters.
func fold(_ word: String) -> Letters { fold(word.composed) }

func fold(_ letters: some Sequence<Unicode.Scalar>) -> Letters {
    letters.map { letter in
        let lower = letter.properties.lowercaseMapping.unicodeScalars
        return lower.count == 1 ? lower.first! : letter
    }
}

/// Places of some words in a text, from left to right, none within another; the longest word is looked for first.
func places(of words: [Letters], in text: Letters) -> [Range<Int>] {
    let longestFirst = words.filter { !$0.isEmpty }.sorted { $0.count > $1.count }
    var found: [Range<Int>] = []
    var at = 0
    while at < text.count {
        if let word = longestFirst.first(where: { text[at...].starts(with: $0) }) {
            found.append(at..<at + word.count)
            at += word.count
        } else {
            at += 1
        }
    }
    return found
}
