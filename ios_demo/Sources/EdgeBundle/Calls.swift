/// The calls of a graph of fixed rows that some rows make: the last one is filled up with copies of the last row. The twin of
/// edge_sdk/runtime/rows.py.
public struct Calls: Equatable, Sendable {
    /// Rows that are given, and that a call takes.
    public let rows: Int, ofCall: Int

    public init(rows: Int, ofCall: Int) { (self.rows, self.ofCall) = (rows, ofCall) }

    public var count: Int { (rows + ofCall - 1) / ofCall }

    /// The given row that stands in a row of a call.
    public func row(_ row: Int, of call: Int) -> Int { min(call * ofCall + row, rows - 1) }
}
