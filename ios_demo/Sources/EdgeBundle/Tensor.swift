/// What goes into a graph: numbers in C order and their shape.
public enum Tensor: Equatable, Sendable {
    case float(FloatTensor)
    case int64(shape: [Int], data: [Int64])

    public static func float(shape: [Int], data: [Float]) -> Tensor { .float(FloatTensor(shape: shape, data: data)) }

    public var shape: [Int] {
        switch self {
        case .float(let tensor): tensor.shape
        case .int64(let shape, _): shape
        }
    }
}

/// float32 numbers in C order and their shape; all that a graph gives.
public struct FloatTensor: Equatable, Sendable {
    public let shape: [Int]
    public let data: [Float]

    public init(shape: [Int], data: [Float]) {
        precondition(shape.reduce(1, *) == data.count, "\(data.count) numbers have no shape \(shape)")
        (self.shape, self.data) = (shape, data)
    }
}
