import EdgePhotos
import EdgeSystem
import EdgeZO
import Foundation

/// The photos of a folder (not of its subfolders), or one photo, in the order of names.
struct PhotoFolder {
    private(set) var photos: [Photo] = []
    /// How many files were no usable photo, and a line for each of them.
    private(set) var skipped = 0
    private(set) var notices: [String] = []

    private static let mostPhotos = 100
    // What file managers, cameras and git leave in a folder of photos, beside captions and names with a dot.
    private static let leftovers = [
        "thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "license", "$recycle.bin",
    ]

    /// - Throws: `EdgeSdkError`: the place does not exist or holds no usable photo.
    init(_ source: URL, resolution: Int) throws {
        var isFolder: ObjCBool = false
        let files = FileManager.default
        guard files.fileExists(atPath: source.path, isDirectory: &isFolder) else {
            throw EdgeSdkError("train_data_dir \(source.path) does not exist; give a folder with photos")
        }
        var places = [source]
        if isFolder.boolValue {
            guard let names = try? files.contentsOfDirectory(atPath: source.path) else {
                throw EdgeSdkError("train_data_dir \(source.path) cannot be read; give a folder with photos")
            }
            let photos = names.filter { !$0.hasPrefix(".") && !$0.lowercased().hasSuffix(".txt") }
            places = photos.sorted { $0.unicodeScalars.lexicographicallyPrecedes($1.unicodeScalars) }
                .map(source.appendingPathComponent)
        }
        for place in places {
            do {
                guard photos.count < Self.mostPhotos else {
                    throw EdgeSdkError("there are more than \(Self.mostPhotos) photos")
                }
                photos.append(try PhotoFile.decode(place, resolution: resolution))
            } catch {
                let isLeftover = Self.leftovers.contains(place.lastPathComponent.lowercased())
                skipped += 1
                notices.append("skipped \(place.lastPathComponent): \(isLeftover ? "not a photo" : "\(error)")")
            }
        }
        guard !photos.isEmpty else {
            let why = notices.first.map { "; \($0)" } ?? ""
            throw EdgeSdkError(
                "train_data_dir \(source.path) holds no usable photo (\(skipped) skipped\(why)); give PNG or JPEG")
        }
    }
}
