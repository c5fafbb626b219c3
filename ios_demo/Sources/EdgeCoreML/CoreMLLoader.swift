#if canImport(CoreML)
    import CoreML
    import EdgeBundle
    import EdgeSystem
    import EdgeZO
    import Foundation

    /// Opens graphs of a bundle for Core ML. A bundle has one package, whose functions are the graphs.
    ///
    /// Core ML compiles a package before its first use, which takes a while; what it makes is kept in a folder of the app's, named
    /// after the hashes of the package's files.
    @available(iOS 18, macOS 15, *)
    public struct CoreMLLoader: GraphLoader {
        /// Where graphs may run, by the names that a manifest has. The neural engine needs minutes to prepare a large model, so only
        /// bundles that were exported for it ask for it.
        public enum Units: String, CaseIterable, Sendable {
            case cpuAndGPU, cpuAndNeuralEngine, all

            fileprivate var ofCoreML: MLComputeUnits {
                switch self {
                case .cpuAndGPU: .cpuAndGPU
                case .cpuAndNeuralEngine: .cpuAndNeuralEngine
                case .all: .all
                }
            }
        }

        private static let mostCompiled = 2  // packages that are kept: each takes the space of its weights

        private let compiled: [String: URL]  // by the package's path in the bundle
        private let units: Units

        /// Compiles what of a bundle is not compiled yet.
        ///
        /// - Parameters:
        ///   - cache: a folder of the app's own, not in any backup.
        ///   - units: nil for what the manifest says.
        /// - Throws: `EdgeSdkError`, one line: the bundle is of another format, or Core ML refuses it.
        public init(_ bundle: ModelBundle, cache: URL, units: Units? = nil) async throws {
            guard bundle.manifest.format == .coreml else {
                throw EdgeSdkError(
                    "\(bundle.folder.path) is a bundle for \(bundle.manifest.format.rawValue); Core ML runs coreml")
            }
            var compiled: [String: URL] = [:]
            for package in Set(bundle.manifest.graphs.values.map(\.file)).sorted() {
                compiled[package] = try await Self.compiled(package, of: bundle, in: cache)
            }
            let stated = bundle.manifest.runtime["coreml"]?["compute_units"]?.string
            (self.compiled, self.units) = (compiled, units ?? stated.flatMap(Units.init) ?? .cpuAndGPU)
            Self.removeOld(in: cache, but: compiled.values.map(\.lastPathComponent))
        }

        public func open(_ bundle: ModelBundle, _ name: String) throws -> any Graph {
            let (_, described) = try bundle.graph(name)
            guard let package = compiled[described.file] else {
                throw EdgeSdkError("\(described.file) was not compiled; make a CoreMLLoader of this very bundle")
            }
            let configuration = MLModelConfiguration()
            // The VAE is float32, which the engine does not have: the GPU takes it.
            let float32 = units == .cpuAndNeuralEngine && name.hasPrefix("vae_")
            configuration.computeUnits = float32 ? .cpuAndGPU : units.ofCoreML
            configuration.functionName = described.function
            do {
                let graph = try CoreMLGraph(name, MLModel(contentsOf: package, configuration: configuration), described)
                return bundle.manifest.target == nil ? graph : RowsGraph(graph, described)
            } catch let error as EdgeSdkError { throw error } catch {
                throw EdgeSdkError("Core ML cannot load the graph \(name) (\(oneLine(error))); export the bundle again")
            }
        }

        /// The compiled form of a package, made if it is not there yet.
        private static func compiled(_ package: String, of bundle: ModelBundle, in cache: URL) async throws -> URL {
            let files = bundle.manifest.files.filter { $0.key.hasPrefix("\(package)/") }.sorted { $0.key < $1.key }
            let key = Sha256.hex(files.map { "\($0.key) \($0.value.sha256)\n" }.joined().utf8)
            let place = cache.appendingPathComponent("\(key).mlmodelc")
            if FileManager.default.fileExists(atPath: place.path) { return place }
            do {
                let made = try await MLModel.compileModel(at: bundle.folder.appendingPathComponent(package))
                try FileManager.default.createDirectory(at: cache, withIntermediateDirectories: true)
                try FileManager.default.moveItem(at: made, to: place)  // whole: a move within a volume
                return place
            } catch {
                throw EdgeSdkError("Core ML cannot compile \(package) (\(oneLine(error))); export the bundle again")
            }
        }

        private static func removeOld(in cache: URL, but used: [String]) {
            let keys: [URLResourceKey] = [.contentModificationDateKey]
            let there =
                (try? FileManager.default.contentsOfDirectory(at: cache, includingPropertiesForKeys: keys)) ?? []
            func age(_ url: URL) -> Date {
                (try? url.resourceValues(forKeys: Set(keys)))?.contentModificationDate ?? .distantPast
            }
            let others = there.filter { !used.contains($0.lastPathComponent) }.sorted { age($0) > age($1) }
            for url in others.dropFirst(max(0, mostCompiled - used.count)) {
                try? FileManager.default.removeItem(at: url)
            }
        }
    }

    /// The reason of a failure in one line.
    func oneLine(_ error: any Error) -> String {
        String(error.localizedDescription.split(whereSeparator: \.isWhitespace).joined(separator: " ").prefix(200))
    }
#endif
