import Foundation

/// Portable randomness, the twin of `edge_sdk/zo/noise.py`: Philox4x32-10 bits, uniforms, integers and normals.
///
/// Number i of a sequence depends only on (seed, stream, step, i): longer requests begin with the shorter ones.
public enum Stream: UInt32, Sendable {
    case perturbation, noise, timestep, image, augmentation
}

/// Ten rounds of Philox on one counter (block low, block high, step, stream) with a key (seed low, seed high).
public func philox4x32(_ counter: SIMD4<UInt32>, key: SIMD2<UInt32>) -> SIMD4<UInt32> {
    var c = counter, k = key
    for _ in 0..<10 {
        let p0 = (0xD251_1F53 as UInt32).multipliedFullWidth(by: c[0])
        let p1 = (0xCD9E_8D57 as UInt32).multipliedFullWidth(by: c[2])
        c = SIMD4(p1.high ^ c[1] ^ k[0], p1.low, p0.high ^ c[3] ^ k[1], p0.low)
        k = k &+ SIMD2(0x9E37_79B9, 0xBB67_AE85)
    }
    return c
}

/// Words `start` to `start + count` of a sequence.
public func words(seed: UInt64, stream: Stream, step: UInt32, count: Int, start: Int = 0) -> [UInt32] {
    let key = SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
    var out: [UInt32] = []
    out.reserveCapacity(count + 3)
    var block = UInt64(start / 4), skip = start % 4
    while out.count < count {
        let low = UInt32(truncatingIfNeeded: block), high = UInt32(truncatingIfNeeded: block >> 32)
        let four = philox4x32(SIMD4(low, high, step, stream.rawValue), key: key)
        for k in skip..<4 { out.append(four[k]) }
        (block, skip) = (block + 1, 0)
    }
    return Array(out.prefix(count))
}

/// Numbers in (0, 1).
public func uniforms(seed: UInt64, stream: Stream, step: UInt32, count: Int, start: Int = 0) -> [Double] {
    words(seed: seed, stream: stream, step: step, count: count, start: start).map { (Double($0) + 0.5) / 0x1p32 }
}

/// Integers in [0, n), for 1 <= n <= 2^32.
public func integers(seed: UInt64, stream: Stream, step: UInt32, count: Int, below n: Int, start: Int = 0) -> [Int] {
    words(seed: seed, stream: stream, step: step, count: count, start: start).map {
        Int((UInt64($0) * UInt64(n)) >> 32)
    }
}

/// Standard normals from number `start` of the sequence on, by Box-Muller in `Double`, each rounded to `Float` once.
public func normals(seed: UInt64, stream: Stream, step: UInt32, count: Int, start: Int = 0) -> [Float] {
    let first = start - start % 2
    let pairs = (count + start - first + 1) / 2
    let u = uniforms(seed: seed, stream: stream, step: step, count: 2 * pairs, start: first)
    var out: [Float] = []
    out.reserveCapacity(2 * pairs)
    for i in 0..<pairs {
        let radius = (-2 * log(u[2 * i])).squareRoot(), angle = 2 * Double.pi * u[2 * i + 1]
        out.append(Float(radius * cos(angle)))
        out.append(Float(radius * sin(angle)))
    }
    return Array(out[(start - first)..<(start - first + count)])
}
