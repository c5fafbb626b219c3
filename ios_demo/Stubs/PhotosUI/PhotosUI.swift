// What we believe of PhotosUI; above each Apple's documented declaration. See ../CoreML/CoreML.swift.
import SwiftUI

// struct PHPickerFilter     static let images: PHPickerFilter
public struct PHPickerFilter: Sendable { public static let images = PHPickerFilter() }

// struct PhotosPickerSelectionBehavior     static let `default`: PhotosPickerSelectionBehavior
public struct PhotosPickerSelectionBehavior: Sendable { public static let `default` = PhotosPickerSelectionBehavior() }

// struct PhotosPickerItem : Equatable, Hashable, Sendable
public struct PhotosPickerItem: Equatable, Hashable, Sendable {
    // struct EncodingDisambiguationPolicy     static let automatic, current, compatible
    public struct EncodingDisambiguationPolicy: Sendable {
        public static let automatic = Self()
        public static let current = Self()
    }
    // func loadTransferable<T>(type: T.Type) async throws -> T? where T : Transferable
    public func loadTransferable<T: Transferable>(type: T.Type) async throws -> T? { nil }
}

// @MainActor @preconcurrency struct PhotosPicker<Label> where Label : View
@MainActor public struct PhotosPicker<Label: View>: View {
    // nonisolated init(selection: Binding<[PhotosPickerItem]>, maxSelectionCount: Int? = nil,
    //   selectionBehavior: PhotosPickerSelectionBehavior = .default, matching filter: PHPickerFilter? = nil,
    //   preferredItemEncoding: PhotosPickerItem.EncodingDisambiguationPolicy = .automatic, @ViewBuilder label: @Sendable () -> Label)
    nonisolated public init(
        selection: Binding<[PhotosPickerItem]>, maxSelectionCount: Int? = nil,
        selectionBehavior: PhotosPickerSelectionBehavior = .default, matching filter: PHPickerFilter? = nil,
        preferredItemEncoding: PhotosPickerItem.EncodingDisambiguationPolicy = .automatic,
        @ViewBuilder label: @Sendable () -> Label
    ) {}
    public var body: some View { EmptyView() }
}
