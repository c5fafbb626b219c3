import EdgeModel
import SwiftUI
import UniformTypeIdentifiers

/// Takes a bundle's folder from Files into the app.
struct BundleImporter: View {
    let model: AppModel
    @State private var isShown = false

    var body: some View {
        Button("bundle_choose") { isShown = true }
            .disabled(model.work != nil)
            .fileImporter(isPresented: $isShown, allowedContentTypes: [.folder]) { result in
                guard case .success(let folder) = result else { return }
                // The right to read lasts until it is given back, after the copy.
                let isGranted = folder.startAccessingSecurityScopedResource()
                model.takeBundle(folder)
                Task {
                    await model.settle()
                    if isGranted { folder.stopAccessingSecurityScopedResource() }
                }
            }
    }
}

/// Saves the token into Files.
struct TokenSaver: View {
    let model: AppModel
    let token: URL
    @State private var isShown = false

    var body: some View {
        Button("save") { isShown = true }
            .fileExporter(
                isPresented: $isShown, document: TokenDocument(bytes: (try? Data(contentsOf: token)) ?? Data()),
                contentType: .data, defaultFilename: token.lastPathComponent
            ) { result in
                switch result {
                case .success: model.keep()
                case .failure(let error): model.savingFailed(error.localizedDescription)
                }
            }
    }
}

private struct TokenDocument: FileDocument {
    static let readableContentTypes: [UTType] = [.data]
    let bytes: Data

    init(bytes: Data) { self.bytes = bytes }
    init(configuration: ReadConfiguration) throws { bytes = configuration.file.regularFileContents ?? Data() }

    func fileWrapper(configuration: WriteConfiguration) throws -> FileWrapper {
        FileWrapper(regularFileWithContents: bytes)
    }
}
