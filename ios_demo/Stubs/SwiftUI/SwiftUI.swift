// What we believe of SwiftUI, no more than App/ uses; above each Apple's documented declaration, where it says more than the
// line itself. See ../CoreML/CoreML.swift. Nothing here draws anything.
@_exported import CoreGraphics
@_exported import Foundation
@_exported import Observation
@_exported import UIKit
import UniformTypeIdentifiers

// @MainActor @preconcurrency protocol View     @ViewBuilder var body: Self.Body { get }
@MainActor @preconcurrency public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
}
extension Never: View { public var body: Never { return fatalError() } }
public struct EmptyView: View {
    nonisolated public init() {}
    public var body: Never { return fatalError() }
}

// @resultBuilder struct ViewBuilder
@resultBuilder public struct ViewBuilder {
    public static func buildBlock() -> EmptyView { EmptyView() }
    public static func buildBlock<each Content: View>(_ content: repeat each Content) -> some View { EmptyView() }
    public static func buildIf<Content: View>(_ content: Content?) -> Content? { content }
    public static func buildEither<A: View, B: View>(first: A) -> Either<A, B> { Either() }
    public static func buildEither<A: View, B: View>(second: B) -> Either<A, B> { Either() }
}
public struct Either<A: View, B: View>: View { public var body: Never { return fatalError() } }
extension Optional: View where Wrapped: View { public var body: Never { return fatalError() } }

// protocol Scene, protocol App
@MainActor @preconcurrency public protocol Scene {}
@MainActor @preconcurrency public protocol App {
    associatedtype Body: Scene
    @SceneBuilder var body: Body { get }
    init()
}
extension App { public static func main() {} }
@resultBuilder public struct SceneBuilder {
    public static func buildBlock<Content: Scene>(_ content: Content) -> Content { content }
}
// struct WindowGroup     nonisolated init(@ViewBuilder content: () -> Content)
public struct WindowGroup<Content: View>: Scene { nonisolated public init(@ViewBuilder content: () -> Content) {} }
// enum ScenePhase     case background, inactive, active
public enum ScenePhase: Comparable, Sendable { case background, inactive, active }

// @propertyWrapper struct State     init(initialValue: Value)
@propertyWrapper public struct State<Value> {
    public var wrappedValue: Value {
        get { fatalError() }
        nonmutating set {}
    }
    public var projectedValue: Binding<Value> { fatalError() }
    public init(wrappedValue: Value) {}
    public init(initialValue: Value) {}
}
extension State where Value: ExpressibleByNilLiteral { public init() {} }
// @propertyWrapper @dynamicMemberLookup struct Binding
@propertyWrapper public struct Binding<Value> {
    public var wrappedValue: Value {
        get { fatalError() }
        nonmutating set {}
    }
    public var projectedValue: Binding<Value> { self }
    // init(projectedValue: Binding<Value>)
    public init(projectedValue: Binding<Value>) {}
}
// @dynamicMemberLookup @propertyWrapper struct Bindable     for Observable objects
//   subscript<Subject>(dynamicMember keyPath: ReferenceWritableKeyPath<Value, Subject>) -> Binding<Subject> { get }
@dynamicMemberLookup @propertyWrapper public struct Bindable<Value: Observable> {
    public var wrappedValue: Value
    public var projectedValue: Bindable<Value> { self }
    public subscript<Subject>(dynamicMember keyPath: ReferenceWritableKeyPath<Value, Subject>) -> Binding<Subject> {
        fatalError()
    }
    public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
}
// @propertyWrapper struct Environment     init(_ keyPath: KeyPath<EnvironmentValues, Value>)
@propertyWrapper public struct Environment<Value> {
    public var wrappedValue: Value { fatalError() }
    public init(_ keyPath: KeyPath<EnvironmentValues, Value>) {}
}
public struct EnvironmentValues { public var scenePhase: ScenePhase { .active } }

// struct LocalizedStringKey : ExpressibleByStringInterpolation
public struct LocalizedStringKey: ExpressibleByStringLiteral { public init(stringLiteral value: String) {} }
// Text: init(_ key: LocalizedStringKey, ...); of a variable, init<S>(_ content: S) where S : StringProtocol, which is not localized
public struct Text: View {
    public init(_ key: LocalizedStringKey) {}
    @_disfavoredOverload public init(_ content: some StringProtocol) {}
    public var body: Never { return fatalError() }
}
public struct Image: View {
    public init(systemName: String) {}
    // init(decorative cgImage: CGImage, scale: CGFloat, orientation: Image.Orientation = .up)
    public init(decorative cgImage: CGImage, scale: CGFloat) {}
    public init(uiImage: UIImage) {}
    public func resizable() -> Image { self }
    public var body: Never { return fatalError() }
}
public struct Color: View {
    public static let secondary = Color()
    public var body: Never { return fatalError() }
}
public struct RoundedRectangle: Shape { public init(cornerRadius: CGFloat) {} }
public protocol Shape: Sendable {}

public struct Label<Title: View, Icon: View>: View { public var body: Never { return fatalError() } }
extension Label where Title == Text, Icon == Image {
    nonisolated public init(_ titleKey: LocalizedStringKey, systemImage name: String) {}
}

// struct ButtonRole     static let destructive, cancel
public struct ButtonRole: Sendable {
    public static let destructive = ButtonRole()
    public static let cancel = ButtonRole()
}
// Button: init(action: @escaping @MainActor () -> Void, @ViewBuilder label: () -> Label); init(_ titleKey: LocalizedStringKey,
//   action:); init(_ titleKey: LocalizedStringKey, role: ButtonRole?, action:); init(_ titleKey:, systemImage: String, action:)
public struct Button<Content: View>: View {
    public init(action: @escaping @MainActor () -> Void, @ViewBuilder label: () -> Content) {}
    public var body: Never { return fatalError() }
}
extension Button where Content == Text {
    public init(_ titleKey: LocalizedStringKey, action: @escaping @MainActor () -> Void) {}
    public init(_ titleKey: LocalizedStringKey, role: ButtonRole?, action: @escaping @MainActor () -> Void) {}
}
extension Button where Content == Label<Text, Image> {
    public init(_ titleKey: LocalizedStringKey, systemImage: String, action: @escaping @MainActor () -> Void) {}
}

public struct Spacer: View {
    public init() {}
    public var body: Never { return fatalError() }
}
public struct HorizontalAlignment: Sendable {
    public static let leading = HorizontalAlignment(), center = HorizontalAlignment()
}
public struct VerticalAlignment: Sendable { public static let top = VerticalAlignment(), center = VerticalAlignment() }
public struct HStack<Content: View>: View {
    public init(alignment: VerticalAlignment = .center, @ViewBuilder content: () -> Content) {}
    public var body: Never { return fatalError() }
}
public struct VStack<Content: View>: View {
    public init(alignment: HorizontalAlignment = .center, @ViewBuilder content: () -> Content) {}
    public var body: Never { return fatalError() }
}
public struct Group<Content: View>: View {
    public init(@ViewBuilder content: () -> Content) {}
    public var body: Never { return fatalError() }
}
public struct NavigationStack<Content: View>: View {
    public init(@ViewBuilder root: () -> Content) {}
    public var body: Never { return fatalError() }
}
public struct Form<Content: View>: View {
    public init(@ViewBuilder content: () -> Content) {}
    public var body: Never { return fatalError() }
}
public struct Axis { public struct Set: Sendable { public static let horizontal = Set() } }
public struct ScrollView<Content: View>: View {
    public init(_ axes: Axis.Set, @ViewBuilder content: () -> Content) {}
    public var body: Never { return fatalError() }
}
// Section: init(content:), init(_ titleKey: LocalizedStringKey, content:), init(content:, header:)
public struct Section<Parent: View, Content: View>: View { public var body: Never { return fatalError() } }
extension Section where Parent == EmptyView { public init(@ViewBuilder content: () -> Content) {} }
extension Section where Parent == Text {
    public init(_ titleKey: LocalizedStringKey, @ViewBuilder content: () -> Content) {}
}
extension Section { public init(@ViewBuilder content: () -> Content, @ViewBuilder header: () -> Parent) {} }
// ForEach: init(_ data: Data, content:) where Element : Identifiable; init(_ data: Data, id: KeyPath<Data.Element, ID>, content:)
public struct ForEach<Data: RandomAccessCollection, ID: Hashable, Content: View>: View {
    public init(_ data: Data, id: KeyPath<Data.Element, ID>, @ViewBuilder content: @escaping (Data.Element) -> Content)
    {}
    public var body: Never { return fatalError() }
}
extension ForEach where Data.Element: Identifiable, ID == Data.Element.ID {
    public init(_ data: Data, @ViewBuilder content: @escaping (Data.Element) -> Content) {}
}
public struct TextField: View {
    public init(_ titleKey: LocalizedStringKey, text: Binding<String>) {}
    @_disfavoredOverload public init(_ title: some StringProtocol, text: Binding<String>) {}
    public var body: Never { return fatalError() }
}
public struct Picker<Selection: Hashable, Content: View>: View {
    public init(_ titleKey: LocalizedStringKey, selection: Binding<Selection>, @ViewBuilder content: () -> Content) {}
    public var body: Never { return fatalError() }
}
// ProgressView: init(); init<V>(value: V?, total: V = 1.0) where V : BinaryFloatingPoint
public struct ProgressView: View {
    public init() {}
    public init<V: BinaryFloatingPoint>(value: V?, total: V = 1.0) {}
    public var body: Never { return fatalError() }
}
// protocol Transferable of CoreTransferable; Data and URL conform
public protocol Transferable {}
extension Data: Transferable {}
extension URL: Transferable {}
public struct ShareLink<Content: View>: View {
    public init(item: URL, @ViewBuilder label: () -> Content) {}
    public var body: Never { return fatalError() }
}

// protocol FileDocument
public protocol FileDocument: Sendable {
    static var readableContentTypes: [UTType] { get }
    init(configuration: FileDocumentReadConfiguration) throws
    func fileWrapper(configuration: FileDocumentWriteConfiguration) throws -> FileWrapper
}
extension FileDocument {
    public typealias ReadConfiguration = FileDocumentReadConfiguration
    public typealias WriteConfiguration = FileDocumentWriteConfiguration
}
public struct FileDocumentReadConfiguration { public let file: FileWrapper }
public struct FileDocumentWriteConfiguration {}

public enum Visibility: Sendable { case automatic, visible, hidden }
public struct Alignment: Sendable { public static let leading = Alignment(), center = Alignment() }
public struct Font: Sendable { public static let caption = Font() }
public struct AccessibilityTraits: SetAlgebraStub {
    public static let isSelected = Self(), updatesFrequently = Self()
    public init() {}
}
public protocol SetAlgebraStub: ExpressibleByArrayLiteral, Sendable { init() }
extension SetAlgebraStub { public init(arrayLiteral elements: Self...) { self.init() } }
public struct AccessibilityChildBehavior: Sendable {
    public static let ignore = Self(), contain = Self(), combine = Self()
}
public struct HierarchicalShapeStyle: ShapeStyle { public static let secondary = Self() }
public struct Material: ShapeStyle { public static let regularMaterial = Self() }
public protocol ShapeStyle: Sendable {}
extension ShapeStyle where Self == HierarchicalShapeStyle { public static var secondary: Self { Self() } }
extension ShapeStyle where Self == Material { public static var regularMaterial: Self { Self() } }
public struct LabelStyleName: Sendable { public static let iconOnly = Self() }
public struct ButtonStyleName: Sendable { public static let borderedProminent = Self() }
public struct TextInputAutocapitalization: Sendable { public static let never = Self() }
public enum VerticalEdge: Sendable { case top, bottom }

extension View {
    // func onChange<V>(of value: V, initial: Bool = false, _ action: @escaping (V, V) -> Void) -> some View where V : Equatable
    public func onChange<V: Equatable>(
        of value: V, initial: Bool = false, _ action: @escaping @MainActor (V, V) -> Void
    ) -> some View { self }
    // func task(priority: TaskPriority = .userInitiated, @_inheritActorContext _ action: @escaping @Sendable () async -> Void) -> some View
    public func task(
        priority: TaskPriority = .userInitiated, @_inheritActorContext _ action: @escaping @Sendable () async -> Void
    ) -> some View {
        self
    }
    public func onAppear(perform action: (@MainActor () -> Void)? = nil) -> some View { self }
    // func safeAreaInset<V>(edge: VerticalEdge, alignment: HorizontalAlignment = .center, spacing: CGFloat? = nil, @ViewBuilder content: () -> V)
    public func safeAreaInset(edge: VerticalEdge, @ViewBuilder content: () -> some View) -> some View { self }
    // func navigationTitle(_ titleKey: LocalizedStringKey); func navigationTitle<S>(_ title: S) where S : StringProtocol
    public func navigationTitle(_ titleKey: LocalizedStringKey) -> some View { self }
    @_disfavoredOverload public func navigationTitle(_ title: some StringProtocol) -> some View { self }
    // func confirmationDialog<A>(_ titleKey: LocalizedStringKey, isPresented: Binding<Bool>, titleVisibility: Visibility = .automatic,
    //   @ViewBuilder actions: () -> A) -> some View where A : View
    public func confirmationDialog(
        _ titleKey: LocalizedStringKey, isPresented: Binding<Bool>, titleVisibility: Visibility = .automatic,
        @ViewBuilder actions: () -> some View
    ) -> some View { self }
    // func fileImporter(isPresented: Binding<Bool>, allowedContentTypes: [UTType], onCompletion: @escaping (Result<URL, any Error>) -> Void)
    public func fileImporter(
        isPresented: Binding<Bool>, allowedContentTypes: [UTType],
        onCompletion: @escaping @MainActor (Result<URL, any Error>) -> Void
    ) -> some View { self }
    // func fileExporter<D>(isPresented: Binding<Bool>, document: D?, contentType: UTType, defaultFilename: String? = nil,
    //   onCompletion: @escaping (Result<URL, any Error>) -> Void) -> some View where D : FileDocument
    public func fileExporter<D: FileDocument>(
        isPresented: Binding<Bool>, document: D?, contentType: UTType, defaultFilename: String? = nil,
        onCompletion: @escaping @MainActor (Result<URL, any Error>) -> Void
    ) -> some View { self }
    public func swipeActions(@ViewBuilder content: () -> some View) -> some View { self }
    public func disabled(_ disabled: Bool) -> some View { self }
    public func padding() -> some View { self }
    public func frame(width: CGFloat? = nil, height: CGFloat? = nil, alignment: Alignment = .center) -> some View {
        self
    }
    public func frame(maxWidth: CGFloat?, alignment: Alignment = .center) -> some View { self }
    public func background(_ style: some ShapeStyle) -> some View { self }
    public func foregroundStyle(_ style: some ShapeStyle) -> some View { self }
    public func font(_ font: Font?) -> some View { self }
    public func clipShape(_ shape: some Shape) -> some View { self }
    public func scaledToFit() -> some View { self }
    public func scaledToFill() -> some View { self }
    public func labelStyle(_ style: LabelStyleName) -> some View { self }
    public func buttonStyle(_ style: ButtonStyleName) -> some View { self }
    public func textInputAutocapitalization(_ autocapitalization: TextInputAutocapitalization?) -> some View { self }
    public func autocorrectionDisabled(_ disable: Bool = true) -> some View { self }
    public func accessibilityElement(children: AccessibilityChildBehavior = .ignore) -> some View { self }
    public func accessibilityAddTraits(_ traits: AccessibilityTraits) -> some View { self }
    // func accessibilityLabel(_ labelKey: LocalizedStringKey); func accessibilityLabel<S>(_ label: S) where S : StringProtocol
    public func accessibilityLabel(_ labelKey: LocalizedStringKey) -> some View { self }
    @_disfavoredOverload public func accessibilityLabel(_ label: some StringProtocol) -> some View { self }
}
