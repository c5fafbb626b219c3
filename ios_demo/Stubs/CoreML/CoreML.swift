// Declarations for the type check on Linux: what we believe of Core ML, no more than EdgeCoreML uses. Above each stands Apple's
// documented declaration (developer.apple.com/documentation/coreml). Nothing here is ever linked or run.
@_exported import Foundation

// class MLModelConfiguration
public final class MLModelConfiguration {
    public init() {}
    // var computeUnits: MLComputeUnits { get set }
    public var computeUnits: MLComputeUnits = .all
    // var functionName: String? { get set }     iOS 18.0
    public var functionName: String?
}

// enum MLComputeUnits : Int, @unchecked Sendable     case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine
public enum MLComputeUnits: Int, @unchecked Sendable { case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine }

// class MLModel
open class MLModel {
    // convenience init(contentsOf url: URL, configuration: MLModelConfiguration) throws
    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws { fatalError() }
    // class func compileModel(at url: URL) async throws -> URL     iOS 16.0; the one without async is deprecated
    public class func compileModel(at url: URL) async throws -> URL { fatalError() }
    // func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider
    public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider { fatalError() }
}

// protocol MLFeatureProvider
public protocol MLFeatureProvider {
    // func featureValue(for featureName: String) -> MLFeatureValue?
    func featureValue(for featureName: String) -> MLFeatureValue?
}

// class MLDictionaryFeatureProvider
public final class MLDictionaryFeatureProvider: MLFeatureProvider {
    // init(dictionary: [String : Any]) throws
    public init(dictionary: [String: Any]) throws { fatalError() }
    public func featureValue(for featureName: String) -> MLFeatureValue? { fatalError() }
}

// class MLFeatureValue
public final class MLFeatureValue {
    // var multiArrayValue: MLMultiArray? { get }
    public var multiArrayValue: MLMultiArray? { fatalError() }
    init() {}
}

// enum MLMultiArrayDataType : Int, @unchecked Sendable
public enum MLMultiArrayDataType: Int, @unchecked Sendable {
    case double, float64, float32, float16, float, int32, int8
}

// class MLMultiArray
public final class MLMultiArray {
    // init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws
    public init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws { fatalError() }
    // var count: Int { get }
    public var count: Int { fatalError() }
    // var dataType: MLMultiArrayDataType { get }
    public var dataType: MLMultiArrayDataType { fatalError() }
    // func withUnsafeMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer, [Int]) throws -> R) rethrows -> R     iOS 15.4
    public func withUnsafeMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer, [Int]) throws -> R) rethrows -> R {
        fatalError()
    }
}

// protocol MLShapedArrayScalar
public protocol MLShapedArrayScalar {}
extension Float: MLShapedArrayScalar {}

// struct MLShapedArray<Scalar> where Scalar : MLShapedArrayScalar
public struct MLShapedArray<Scalar: MLShapedArrayScalar> {
    // init(_ multiArray: MLMultiArray)
    public init(_ multiArray: MLMultiArray) { fatalError() }
    // var scalars: [Self.Scalar] { get set }     a linear array that contains every element
    public var scalars: [Scalar] { fatalError() }
}

// func autoreleasepool<Result>(invoking body: () throws -> Result) rethrows -> Result     of ObjectiveC, which Foundation exports
public func autoreleasepool<Result>(invoking body: () throws -> Result) rethrows -> Result { try body() }
