import EdgeSystem

/// Settings that describe themselves: the command line's help and every check of a range read this table. The twin of
/// `edge_sdk/zo/options.py`.
extension ZoConfig {
    public struct Option: Sendable {
        /// As in a bundle's presets and on the command line.
        public let name: String
        /// What it does and its unit, without its default.
        public let help: String
        /// False for what only a bundle's presets or a program set.
        public let onCommandLine: Bool
        let read: @Sendable (ZoConfig) -> Json
        let write: @Sendable (ZoConfig, Json) throws -> ZoConfig
    }

    /// In the order of `presets.json`.
    public static let options: [Option] = [
        word(
            "optimizer", \.optimizer, "adam on an estimated gradient, or gauss_newton on differences of the residuals",
            false),
        whole("max_train_steps", \.maxTrainSteps, 1...1_000_000_000, "updates of the token"),
        real("learning_rate", \.learningRate, Limits(above: 0, below: 10), "step size of Adam"),
        word(
            "lr_schedule", \.lrSchedule,
            "whether the step size of Adam stays (constant), or falls to a tenth over the run (cosine)"),
        whole("zo_samples", \.zoSamples, 1...4096, "directions that a step measures (n)"),
        whole(
            "zo_directions", \.zoDirections, 0...4096,
            "directions that Gauss-Newton searches for each vector; 0: as many as a step measures"),
        real(
            "zo_mu", \.zoMu, Limits(above: 0, below: 10), "length of a perturbation per standard normal coordinate (mu)"
        ),
        word(
            "zo_difference", \.zoDifference,
            "difference of two losses: forward shares one base loss, central has two sides"),
        word(
            "zo_draws", \.zoDraws, "shared: all directions see the same draws; per_direction: each has its own", false),
        whole("train_batch_size", \.trainBatchSize, 1...4096, "draws on which a step measures each direction"),
        Option(
            name: "zo_normalize", help: "divide by sqrt((d' + n - 1) / n), as the released code does",
            onCommandLine: false,
            read: { .bool($0.zoNormalize) },
            write: { config, value in
                var changed = config
                changed.zoNormalize = try value.bool.orRefused("zo_normalize", value, "true or false")
                return changed
            }),
        whole(
            "subspace_buffer", \.subspaceBuffer, 2...4096, orZero: true,
            "token values from which a subspace is made (tau); 0 switches the projection off"),
        real(
            "subspace_threshold", \.subspaceThreshold, Limits(least: 0, below: 1),
            "share of variance that the removed directions hold together (nu)"),
        Option(
            name: "timestep_range", help: "timesteps on which the loss is measured, LO <= t < HI", onCommandLine: true,
            read: { .list([.number($0.timestepRange.low), .number($0.timestepRange.high)]) },
            write: { config, value in
                let accepted = "LO HI with 0 <= LO < HI <= 100000"
                let ends = value.items?.compactMap(\.int) ?? []
                guard ends.count == 2, value.items?.count == 2, 0 <= ends[0], ends[0] < ends[1], ends[1] <= 100_000
                else {
                    let shown = value.items.map { $0.map { $0.written() }.joined(separator: " ") } ?? value.written()
                    throw EdgeSdkError("timestep_range is \(shown.prefix(60)); it must be \(accepted)")
                }
                var changed = config
                changed.timestepRange = TimestepRange(low: ends[0], high: ends[1])
                return changed
            }),
        real("adam_beta1", \.adamBeta1, Limits(least: 0, below: 1), "decay of Adam's mean gradient", false),
        real("adam_beta2", \.adamBeta2, Limits(least: 0, below: 1), "decay of Adam's mean square", false),
        real(
            "adam_eps", \.adamEps, Limits(most: 1000, above: 0), "what Adam adds to the root of its mean square", false),
        real(
            "damping", \.damping, Limits(most: 1000, above: 0),
            "what Gauss-Newton adds to its matrix's diagonal, as a share of the diagonal's mean"),
        real("memory", \.memory, Limits(least: 0, most: 100), "Gauss-Newton weighs step k by k to this power", false),
        real(
            "trust_radius", \.trustRadius, Limits(above: 0, below: .infinity),
            "longest step of Gauss-Newton, in the directions' coefficients"),
        real(
            "average_from", \.averageFrom, Limits(least: 0, most: 1),
            "share of the steps from which the result is the mean token; 1: the result is the last token"),
        whole(
            "max_bad_steps", \.maxBadSteps, 1...1_000_000_000,
            "losses in a row that are not finite, after which a run gives up", false),
    ]

    /// A range of numbers: least and most belong to it, above and below do not.
    struct Limits: Sendable {
        var least: Double?, most: Double?, above: Double?, below: Double?

        init(least: Double? = nil, most: Double? = nil, above: Double? = nil, below: Double? = nil) {
            (self.least, self.most, self.above, self.below) = (least, most, above, below)
        }

        func contains(_ x: Double) -> Bool {
            x >= (least ?? -.infinity) && x <= (most ?? .infinity) && x > (above ?? -.infinity)
                && x < (below ?? .infinity)
        }

        /// Such as "above 0 and below 10".
        var words: String {
            func shown(_ x: Double?, _ word: String) -> String? {
                x.map { $0.isInfinite ? nil : "\(word) \(Int($0))" } ?? nil
            }
            if let least, let most { return "from \(Int(least)) to \(Int(most))" }
            let low = shown(least, "at least") ?? shown(above, "above"),
                high = shown(most, "at most") ?? shown(below, "below")
            return [low, high].compactMap { $0 }.joined(separator: " and ")
        }
    }

    private typealias Path<Value> = WritableKeyPath<ZoConfig, Value> & Sendable

    private static func whole(
        _ name: String, _ path: Path<Int>, _ range: ClosedRange<Int>, orZero: Bool = false, _ help: String,
        _ onCommandLine: Bool = true
    ) -> Option {
        let accepted = "from \(range.lowerBound) to \(range.upperBound)"
        return Option(
            name: name, help: help, onCommandLine: onCommandLine, read: { .number($0[keyPath: path]) },
            write: { config, value in
                let number = try value.int.orRefused(name, value, "a whole number")
                guard range.contains(number) || (orZero && number == 0) else {
                    throw refusal(name, value, orZero ? "0 (off) or \(accepted)" : accepted)
                }
                var changed = config
                changed[keyPath: path] = number
                return changed
            })
    }

    private static func real(
        _ name: String, _ path: Path<Double>, _ limits: Limits, _ help: String, _ onCommandLine: Bool = true
    ) -> Option {
        Option(
            name: name, help: help, onCommandLine: onCommandLine, read: { .number($0[keyPath: path]) },
            write: { config, value in
                let number = try value.double.orRefused(name, value, "a number")
                guard limits.contains(number) else { throw refusal(name, value, limits.words) }
                var changed = config
                changed[keyPath: path] = number
                return changed
            })
    }

    private static func word<Word: RawRepresentable<String> & CaseIterable & Sendable>(
        _ name: String, _ path: Path<Word>, _ help: String, _ onCommandLine: Bool = true
    ) -> Option {
        Option(
            name: name, help: help, onCommandLine: onCommandLine, read: { .text($0[keyPath: path].rawValue) },
            write: { config, value in
                let accepted = "one of \(Word.allCases.map(\.rawValue).joined(separator: ", "))"
                var changed = config
                changed[keyPath: path] = try value.string.flatMap(Word.init).orRefused(name, value, accepted)
                return changed
            })
    }
}

private func refusal(_ name: String, _ value: Json, _ accepted: String) -> EdgeSdkError {
    EdgeSdkError("\(name) is \(value.written().prefix(60)); it must be \(accepted)")
}

extension Optional {
    fileprivate func orRefused(_ name: String, _ value: Json, _ accepted: String) throws -> Wrapped {
        guard let self else { throw refusal(name, value, accepted) }
        return self
    }
}
