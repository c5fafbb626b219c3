// What we believe of Uniform Type Identifiers; above each Apple's documented declaration. See ../CoreML/CoreML.swift.

// struct UTType     static var folder: UTType { get }     static var data: UTType { get }
public struct UTType: Sendable {
    public static let folder = UTType()
    public static let data = UTType()
}
