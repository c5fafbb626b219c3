import EdgeModel
import SwiftUI

/// The first screen: a bundle, photos, a word.
struct ChoosingView: View {
    @Bindable var model: AppModel
    let background: Background

    var body: some View {
        Form {
            Section { Text("choosing_lead") }
            bundles
            photos
            words
            Section {
                Button("start") {
                    model.start()
                    background.askToContinue()
                }
                .buttonStyle(.borderedProminent)
                .disabled(!model.canStart)
                Button("measure") { model.showMeasuring() }
                    .disabled(model.bundle == nil || model.work != nil)
            }
        }
        .navigationTitle("choosing_title")
    }

    private var bundles: some View {
        Section("bundle_label") {
            if model.bundles.isEmpty { Text("bundle_none") }
            ForEach(model.bundles) { bundle in
                Button {
                    model.choose(bundle)
                } label: {
                    HStack {
                        VStack(alignment: .leading) {
                            Text(bundle.name)
                            Text(
                                sentence(
                                    "bundle_line", [bundle.model, bundle.weights, shown(bundle.megabytes, digits: 1)])
                            )
                            .font(.caption)
                            .foregroundStyle(.secondary)
                        }
                        Spacer()
                        if bundle == model.bundle { Image(systemName: "checkmark") }
                    }
                }
                .accessibilityAddTraits(bundle == model.bundle ? .isSelected : [])
                .swipeActions { Button("remove", role: .destructive) { model.removeBundle(bundle.name) } }
            }
            BundleImporter(model: model)
            if let work = model.work, work.kind == .copyingBundle { WorkLine(work: work) { model.cancel() } }
        }
    }

    private var photos: some View {
        Section("photos_label") {
            if model.photos.isEmpty {
                Text("photos_none")
            } else {
                Text(sentence("photos_count", ["\(model.photos.count)"]))
            }
            ScrollView(.horizontal) {
                HStack {
                    ForEach(Array(model.photos.enumerated()), id: \.element) { index, photo in
                        Button {
                            model.removePhoto(index)
                        } label: {
                            Thumbnail(file: photo)
                        }
                        .accessibilityLabel(sentence("photo_remove", ["\(index + 1)", "\(model.photos.count)"]))
                    }
                }
            }
            PhotoChooser(model: model)
            if let work = model.work, work.kind == .readingPhotos { WorkLine(work: work) { model.cancel() } }
        }
    }

    private var words: some View {
        Section {
            TextField("word_hint", text: $model.typedWord)
                .textInputAutocapitalization(.never)
                .autocorrectionDisabled()
                .accessibilityLabel(sentence("word_label"))
            if let bundle = model.bundle {
                Picker("initializer_label", selection: $model.chosenInitializer) {
                    ForEach(bundle.initializers, id: \.self) { Text($0) }
                }
            }
        } header: {
            Text("word_label")
        }
    }
}

extension AppModel {
    /// What the text field and the picker write.
    fileprivate var typedWord: String {
        get { word }
        set { setWord(newValue) }
    }
    fileprivate var chosenInitializer: String {
        get { initializer }
        set { setInitializer(newValue) }
    }
}

/// What is being done, and how to end it.
struct WorkLine: View {
    let work: Work
    let cancel: (@MainActor () -> Void)?

    var body: some View {
        HStack {
            ProgressView()
            Text(
                sentence(
                    work.resource,
                    [work.kind == .copyingBundle ? shown(Double(work.amount) / 1e6, digits: 1) : "\(work.amount)"]))
            Spacer()
            if let cancel { Button("cancel", role: .cancel, action: cancel) }
        }
    }
}
