import Foundation

/// A sentence of the string catalog with its places filled: "%1$@" by the first argument, and so on.
func sentence(_ key: String, _ arguments: [String] = []) -> String {
    arguments.enumerated().reduce(NSLocalizedString(key, comment: "")) { text, argument in
        text.replacingOccurrences(of: "%\(argument.offset + 1)$@", with: argument.element)
    }
}

/// Numbers as the person's region writes them.
func shown(_ number: Double, digits: Int) -> String {
    let formatter = NumberFormatter()
    formatter.numberStyle = .decimal
    (formatter.minimumFractionDigits, formatter.maximumFractionDigits) = (digits, digits)
    return formatter.string(from: NSNumber(value: number)) ?? "\(number)"
}

/// 75 seconds as 1:15.
func clock(_ seconds: Double) -> String {
    let whole = Int(seconds.rounded(.up))
    let parts = whole >= 3600 ? [whole / 3600, whole / 60 % 60, whole % 60] : [whole / 60, whole % 60]
    return parts.enumerated().map { $0.offset == 0 ? "\($0.element)" : String(format: "%02d", $0.element) }.joined(
        separator: ":")
}
