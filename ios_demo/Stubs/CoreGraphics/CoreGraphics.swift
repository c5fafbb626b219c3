// What we believe of Core Graphics, no more than we use; above each Apple's documented declaration. See ../CoreML/CoreML.swift.
@_exported import Foundation

// class CFData, CFString, CFDictionary: which `as` bridges to Data, String, Dictionary on Apple's systems only: here they are
// Swift types to which `as` is allowed.
public typealias CFData = Data
public typealias CFMutableData = NSMutableData
public typealias CFString = String
public typealias CFDictionary = [AnyHashable: Any]

// class CGColorSpace     init?(name: CFString)     class let sRGB: CFString
public final class CGColorSpace {
    public static let sRGB: CFString = ""
    public init?(name: CFString) { nil }
}

// struct CGBitmapInfo : OptionSet     init(rawValue: UInt32)
public struct CGBitmapInfo: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
}

// enum CGImageAlphaInfo : UInt32
public enum CGImageAlphaInfo: UInt32, Sendable {
    case none, premultipliedLast, premultipliedFirst, last, first, noneSkipLast, noneSkipFirst
}
// enum CGColorRenderingIntent : Int32
public enum CGColorRenderingIntent: Int32, Sendable { case defaultIntent }
// enum CGInterpolationQuality : Int32
public enum CGInterpolationQuality: Int32, Sendable { case `default`, none, low, medium, high }

// class CGDataProvider     init?(data: CFData)
public final class CGDataProvider { public init?(data: CFData) { nil } }

// class CGImage
public final class CGImage {
    // init?(width: Int, height: Int, bitsPerComponent: Int, bitsPerPixel: Int, bytesPerRow: Int, space: CGColorSpace,
    //   bitmapInfo: CGBitmapInfo, provider: CGDataProvider, decode: UnsafePointer<CGFloat>?, shouldInterpolate: Bool,
    //   intent: CGColorRenderingIntent)
    public init?(
        width: Int, height: Int, bitsPerComponent: Int, bitsPerPixel: Int, bytesPerRow: Int, space: CGColorSpace,
        bitmapInfo: CGBitmapInfo, provider: CGDataProvider, decode: UnsafePointer<CGFloat>?, shouldInterpolate: Bool,
        intent: CGColorRenderingIntent
    ) { nil }
    // var width: Int { get }     var height: Int { get }
    public var width: Int { 0 }
    public var height: Int { 0 }
}

// class CGContext
public final class CGContext {
    // init?(data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int, space: CGColorSpace,
    //   bitmapInfo: UInt32)
    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int,
        space: CGColorSpace,
        bitmapInfo: UInt32
    ) { nil }
    // var interpolationQuality: CGInterpolationQuality { get set }
    public var interpolationQuality = CGInterpolationQuality.default
    // func draw(_ image: CGImage, in rect: CGRect, byTiling: Bool = false)
    public func draw(_ image: CGImage, in rect: CGRect, byTiling: Bool = false) {}
}
