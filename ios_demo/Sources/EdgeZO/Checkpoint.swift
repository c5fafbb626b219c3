import EdgeSystem

/// The bytes of a checkpoint: one small safetensors file that continues a run bit for bit. The twin of
/// `edge_sdk/zo/checkpoint.py`.
///
/// What must be the same when a run goes on, the photos above all, is kept as salted hashes: no two runs can be linked by
/// them, and no table of known pictures fits.
public enum Checkpoint {
    static let schemaVersion = "3"
    private static let counts = ["step", "forwards", "average_count", "bad_steps", "adam.count", "newton.count"]

    /// A state as the bytes of a file.
    ///
    /// - Parameters:
    ///   - fingerprints: texts that must be the same again when it is read, by name.
    ///   - salt: 32 hexadecimal digits; nil for fresh ones. With the same salt the same state gives the same bytes.
    public static func bytes(of state: RunState, fingerprints: [String: String], salt: String? = nil) -> [UInt8] {
        let salt = salt ?? randomSalt()
        let size = state.embedding.count, basis = state.newton.basis
        let hashes = fingerprints.sorted { $0.key < $1.key }.map { name, value in
            (key: name, value: Json.text(salted(value, salt: salt) ?? value))
        }
        let counts = [
            state.step, state.forwards, state.averageCount, state.badSteps, state.adam.count, state.newton.count,
        ]
        let file = Safetensors(
            metadata: [
                ("schema_version", schemaVersion),
                ("config", state.config.json.written()),
                ("seed", String(state.seed)),
                (
                    "mu_min",
                    state.muMin.isNaN ? "nan" : state.muMin.isInfinite ? "inf" : Json.number(state.muMin).written()
                ),
                ("salt", salt),
                ("fingerprints", Json.object(hashes).written()),
            ],
            tensors: [
                ("embedding", .init(state.embedding, shape: state.shape)),
                ("adam_m", .init(state.adam.m, shape: state.shape)),
                ("adam_v", .init(state.adam.v, shape: state.shape)),
                ("average_sum", .init(state.averageSum, shape: state.shape)),
                (
                    "subspace_history",
                    .init(state.subspace.history.flatMap(\.self), shape: [state.subspace.history.count, size])
                ),
                (
                    "subspace_removed",
                    .init(state.subspace.removed.flatMap(\.self), shape: [state.subspace.removed.count, size])
                ),
                ("newton_basis", .init(basis.flatMap(\.self), shape: [basis.count] + state.shape)),
                ("newton_slope", .init(state.newton.slope, shape: [basis.count])),
                ("newton_curvature", .init(state.newton.curvature.flatMap(\.self), shape: [basis.count, basis.count])),
                ("newton_seen", .init(state.newton.seen, shape: [basis.count])),
                ("counts", .init(counts, shape: [counts.count])),
                ("seconds", .init([state.seconds], shape: [1])),
            ])
        return file.bytes()
    }

    /// The state that the bytes of a file hold.
    ///
    /// - Parameter path: of the file, for messages.
    /// - Throws: `EdgeSdkError`: cut short, edited, of another schema, a number that is not finite, or other fingerprints.
    public static func state(of bytes: [UInt8], path: String, fingerprints: [String: String] = [:]) throws -> RunState {
        let file: Safetensors
        do { file = try Safetensors(bytes) } catch { throw EdgeSdkError("\(path) is damaged (\(error))") }
        guard let version = file.text("schema_version") else {
            throw EdgeSdkError("\(path) is not a checkpoint of this program (it has no schema_version)")
        }
        guard version == schemaVersion else {
            throw EdgeSdkError(
                "\(path) was saved by another version of edge-sdk (schema version \(version.prefix(20)), this one reads "
                    + "\(schemaVersion)); start a new run, or resume with that version")
        }
        let state: RunState
        do { state = try read(file) } catch {
            throw EdgeSdkError("\(path) is not a checkpoint of this program (\(error))")
        }
        let madeWith = try parsed(file, "fingerprints", path)
        let salt = file.text("salt")
        for (name, value) in fingerprints.sorted(by: { $0.key < $1.key }) {
            // Earlier versions kept the values themselves.
            guard madeWith[name]?.string == (salt == nil ? value : salted(value, salt: salt!)) else {
                throw EdgeSdkError("\(path) was made with another \(name); resume with the same one or start a new run")
            }
        }
        return state
    }

    /// The hash that is kept in place of a value; nil where the salt is no hexadecimal number.
    static func salted(_ value: String, salt: String) -> String? {
        let digits = Array(salt)
        guard digits.count % 2 == 0, digits.allSatisfy(\.isHexDigit) else { return nil }
        let bytes = stride(from: 0, to: digits.count, by: 2).map { UInt8(String(digits[$0...($0 + 1)]), radix: 16)! }
        return Sha256.hex(bytes + Array(value.utf8))
    }

    private static func randomSalt() -> String {
        var random = SystemRandomNumberGenerator()
        return (0..<16).map { _ in String(UInt16(UInt8.random(in: 0...255, using: &random)) + 256, radix: 16).suffix(2)
        }
        .joined()
    }

    private static func parsed(_ file: Safetensors, _ key: String, _ path: String) throws -> Json {
        do {
            guard let text = file.text(key) else { throw EdgeSdkError("it has no \(key)") }
            let value = try Json.parse(text.utf8)
            guard value.entries != nil else { throw EdgeSdkError("\(key) is no object") }
            return value
        } catch { throw EdgeSdkError("\(path) is not a checkpoint of this program (\(error))") }
    }

    private static func read(_ file: Safetensors) throws -> RunState {
        func tensor(_ name: String, _ shape: [Int], _ number: Safetensors.Number) throws -> Safetensors.Tensor {
            guard let tensor = file[name] else { throw EdgeSdkError("it has no \(name)") }
            guard tensor.shape == shape, tensor.number == number else {
                throw EdgeSdkError("\(name) has shape \(tensor.shape) of \(tensor.number.rawValue), not \(shape)")
            }
            guard (tensor.floats ?? []).allSatisfy(\.isFinite), (tensor.doubles ?? []).allSatisfy(\.isFinite) else {
                throw EdgeSdkError("\(name) holds a number that is not finite")
            }
            return tensor
        }
        func count(_ name: String) throws -> Int {
            guard let rows = file[name]?.shape.first else { throw EdgeSdkError("it has no \(name)") }
            return rows
        }
        func rows(_ name: String, _ shape: [Int]) throws -> [[Float]] {
            let all = try tensor(name, shape, .f32).floats!, width = shape.dropFirst().reduce(1, *)
            return (0..<shape[0]).map { Array(all[($0 * width)..<(($0 + 1) * width)]) }
        }
        let config = try ZoConfig(json: parsed(file, "config", "it"))
        guard let seed = file.text("seed").flatMap({ UInt64($0) }) else { throw EdgeSdkError("the seed is no number") }
        guard let muMin = Double(file.text("mu_min") ?? "nan") else { throw EdgeSdkError("mu_min is no number") }
        if let salt = file.text("salt"), salted("", salt: salt) == nil { throw EdgeSdkError("the salt is no number") }
        guard try parsed(file, "fingerprints", "it").entries!.allSatisfy({ $0.value.string != nil }) else {
            throw EdgeSdkError("a fingerprint is no text")
        }
        guard let shape = file["embedding"]?.shape, shape.count == 2 else { throw EdgeSdkError("it has no embedding") }
        let basis = try rows("newton_basis", [count("newton_basis")] + shape)
        var state = try RunState(
            config, seed: seed, embedding: tensor("embedding", shape, .f32).floats!, shape: shape, muMin: muMin,
            basis: basis)

        let n = state.newton.basis.count, size = state.embedding.count
        guard n == basis.count else { throw EdgeSdkError("it has directions that adam does not know") }
        state.adam.m = try tensor("adam_m", shape, .f64).doubles!
        state.adam.v = try tensor("adam_v", shape, .f64).doubles!
        state.averageSum = try tensor("average_sum", shape, .f64).doubles!
        state.subspace.history = try rows("subspace_history", [count("subspace_history"), size])
        state.subspace.removed = try rows("subspace_removed", [count("subspace_removed"), size])
        guard max(state.subspace.history.count, state.subspace.removed.count) <= config.subspaceBuffer else {
            throw EdgeSdkError("a subspace has more rows than \(config.subspaceBuffer)")
        }
        state.newton.slope = try tensor("newton_slope", [n], .f64).doubles!
        let curvature = try tensor("newton_curvature", [n, n], .f64).doubles!
        state.newton.curvature = (0..<n).map { Array(curvature[($0 * n)..<(($0 + 1) * n)]) }
        state.newton.seen = try tensor("newton_seen", [n], .i64).integers!

        let values = try tensor("counts", [counts.count], .i64).integers!
        for (name, value) in zip(counts, values) {
            let most = name == "step" ? 1_000_000_000 : name == "forwards" ? 1 << 53 : values[0]
            guard 0 <= value, value <= most else { throw EdgeSdkError("\(name) is \(value)") }
        }
        (state.step, state.forwards, state.averageCount) = (values[0], values[1], values[2])
        (state.badSteps, state.adam.count, state.newton.count) = (values[3], values[4], values[5])
        state.seconds = try tensor("seconds", [1], .f64).doubles![0]
        guard 0...1e12 ~= state.seconds else { throw EdgeSdkError("seconds is out of range") }
        return state
    }
}
