import EdgeModel
import PhotosUI
import SwiftUI

/// The system's photo picker: it needs no permission, and gives only what the person chooses.
struct PhotoChooser: View {
    let model: AppModel
    @State private var chosen: [PhotosPickerItem] = []

    var body: some View {
        PhotosPicker(
            selection: $chosen, maxSelectionCount: AppModel.mostPhotos, matching: .images,
            preferredItemEncoding: .current
        ) {
            Label("photos_choose", systemImage: "photo.on.rectangle")
        }
        .disabled(model.work != nil)
        .onChange(of: chosen) { _, items in
            guard !items.isEmpty else { return }
            chosen = []
            Task {
                var photos: [Data?] = []
                for item in items { photos.append(try? await item.loadTransferable(type: Data.self)) }
                model.addPhotos(photos)
            }
        }
    }
}
