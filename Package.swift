// swift-tools-version: 6.0
import PackageDescription

// A manifest is compiled for the machine that reads it. On a Mac, which builds for iOS, ONNX Runtime is Microsoft's
// xcframework (the archive of its pod, which has no telemetry yet). On Linux, where the tests run, COnnxRuntime takes the
// header of the system, and the library itself is opened at run time.
#if os(Linux)
    let onnxruntime: [Target] = []
    let onnxruntimeBinary: [Target.Dependency] = []
    let photoCodecs: [Target] = [.systemLibrary(name: "CPhotoCodecs", path: "ios_demo/Sources/CPhotoCodecs")]
    let photoCodecsModule: [Target.Dependency] = ["CPhotoCodecs"]
    // Swift 6.0's libswiftObservation.so uses swift::threading::fatal, which no library of Linux gives.
    let observation: [LinkerSetting] = [.unsafeFlags(["-Xlinker", "--allow-shlib-undefined"])]
#else
    let onnxruntime: [Target] = [
        .binaryTarget(
            name: "onnxruntime", url: "https://download.onnxruntime.ai/pod-archive-onnxruntime-c-1.24.2.zip",
            checksum: "f7100a992d2a8135168c8afd831e6a58b465349101982aa58b3e11d36e600b54")
    ]
    let onnxruntimeBinary: [Target.Dependency] = ["onnxruntime"]
    let photoCodecs: [Target] = []  // ImageIO decodes
    let photoCodecsModule: [Target.Dependency] = []
    let observation: [LinkerSetting] = []
#endif

func source(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: "ios_demo/Sources/\(name)")
}

func tests(_ name: String, _ dependencies: [Target.Dependency], _ linker: [LinkerSetting] = []) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: dependencies + ["TestSupport"], path: "ios_demo/Tests/\(name)Tests",
        linkerSettings: linker)
}

let package = Package(
    name: "EdgeSDK",
    defaultLocalization: "en",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(
            name: "EdgeSDK",
            targets: [
                "EdgeSystem", "EdgeZO", "EdgeBundle", "EdgePhotos", "EdgeRuntime", "EdgeOrt", "EdgeCoreML", "EdgeModel",
            ]),
        .executable(name: "edge-personalize", targets: ["edge-personalize"]),
    ],
    targets: onnxruntime + photoCodecs + [
        source("EdgeSystem"),  // JSON, safetensors, hashes, errors
        source("EdgeZO", ["EdgeSystem"]),  // the optimizer
        source("EdgeBundle", ["EdgeSystem", "EdgeZO"]),  // a bundle's files, its tokenizer, sampling
        source("EdgePhotos", ["EdgeSystem", "EdgeZO"] + photoCodecsModule),  // from a file to pixels
        source("EdgeRuntime", ["EdgeSystem", "EdgeZO", "EdgeBundle", "EdgePhotos"]),  // the Personalizer
        source("COnnxRuntime", onnxruntimeBinary),
        source("EdgeOrt", ["EdgeSystem", "EdgeZO", "EdgeBundle", "COnnxRuntime"]),  // graphs on ONNX Runtime
        source("EdgeCoreML", ["EdgeSystem", "EdgeZO", "EdgeBundle"]),  // graphs on Core ML; empty elsewhere
        source("EdgeModel", ["EdgeSystem", "EdgeZO", "EdgeBundle", "EdgePhotos", "EdgeRuntime"]),  // the app's state
        .executableTarget(
            name: "edge-personalize",
            dependencies: ["EdgeSystem", "EdgeZO", "EdgeBundle", "EdgePhotos", "EdgeRuntime", "EdgeOrt"],
            path: "ios_demo/Sources/edge-personalize"),
        .target(name: "TestSupport", dependencies: ["EdgeSystem", "EdgeZO"], path: "ios_demo/Tests/TestSupport"),
        tests("EdgeZO", ["EdgeSystem", "EdgeZO"]),
        tests("EdgeBundle", ["EdgeBundle", "EdgeSystem", "EdgeZO"]),
        tests("EdgePhotos", ["EdgePhotos", "EdgeSystem", "EdgeZO"]),
        tests("EdgeRuntime", ["EdgeRuntime", "EdgeBundle", "EdgePhotos", "EdgeSystem", "EdgeZO"]),
        tests("EdgeOrt", ["EdgeOrt", "EdgeRuntime", "EdgeBundle", "EdgePhotos", "EdgeSystem", "EdgeZO"]),
        tests(
            "EdgeModel", ["EdgeModel", "EdgeOrt", "EdgeRuntime", "EdgeBundle", "EdgePhotos", "EdgeSystem", "EdgeZO"],
            observation),
    ]
)
