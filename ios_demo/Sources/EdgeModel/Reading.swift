/// What the phone tells about itself. What it does not tell is nil.
public struct Reading: Equatable, Sendable {
    /// As `ProcessInfo.ThermalState` has them.
    public enum Thermal: Int, CaseIterable, Comparable, Sendable {
        case nominal, fair, serious, critical

        /// The key of the string catalog: `thermal_fair`.
        public var resource: String { "thermal_\(self)" }

        public static func < (a: Thermal, b: Thermal) -> Bool { a.rawValue < b.rawValue }
    }

    public var thermal: Thermal?
    public var isLowPower: Bool
    /// In percent.
    public var battery: Int?
    /// What the system counts against this process (`phys_footprint`), in MB of 10^6 bytes.
    public var memory: Double?

    public init(thermal: Thermal? = nil, isLowPower: Bool = false, battery: Int? = nil, memory: Double? = nil) {
        (self.thermal, self.isLowPower, self.battery, self.memory) = (thermal, isLowPower, battery, memory)
    }

    /// Why to rest now; nil to learn.
    var neededPause: Pause? { (thermal ?? .nominal) >= .serious ? .hot : isLowPower ? .lowPower : nil }
}

/// Why learning rests.
public enum Pause: String, CaseIterable, Sendable {
    /// The person wants it; only the person ends it.
    case person
    /// The phone is hot; learning goes on by itself.
    case hot
    /// Low-power mode is on; learning goes on by itself.
    case lowPower
    /// iOS stopped the app; learning goes on as soon as it is on the screen, or when iOS gives it time.
    case interrupted
    /// Something failed; the person may try again.
    case failed

    /// Whether learning goes on without the person.
    public var isAutomatic: Bool { self == .hot || self == .lowPower }

    /// The key of the string catalog: `pause_low_power`.
    public var resource: String { "pause_" + snakeCase(rawValue) }
}
