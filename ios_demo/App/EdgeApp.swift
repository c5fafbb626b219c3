import EdgeModel
import SwiftUI

/// Learns a word from a few photos, on this device.
@main
struct EdgeApp: App {
    @State private var model: AppModel
    private let background: Background

    init() {
        let model = Library.model()
        _model = State(initialValue: model)
        background = Background(model)
    }

    var body: some Scene {
        WindowGroup { RootView(model: model, background: background) }
    }
}

/// The screen that is due, and what the app has to say.
struct RootView: View {
    @Bindable var model: AppModel
    let background: Background
    @Environment(\.scenePhase) private var phase

    var body: some View {
        NavigationStack {
            screen
                .safeAreaInset(edge: .bottom) { banner }
        }
        .onChange(of: phase, initial: true) { _, phase in
            switch phase {
            case .active: model.appear()
            case .background: background.enter()
            default: break
            }
        }
        .task { await background.watch() }
        .task {  // without a finger: xcrun devicectl device process launch --device NAME BUNDLE-ID --measure
            guard ProcessInfo.processInfo.arguments.contains("--measure") else { return }
            model.showMeasuring()
            model.measure()
        }
    }

    @ViewBuilder private var screen: some View {
        switch model.screen {
        case .choosing: ChoosingView(model: model, background: background)
        case .learning: LearningView(model: model, background: background)
        case .result: ResultView(model: model)
        case .measuring: MeasuringView(model: model)
        }
    }

    @ViewBuilder private var banner: some View {
        if let message = model.message {
            HStack(alignment: .top) {
                Text(sentence(message.key.resource, message.arguments))
                    .frame(maxWidth: .infinity, alignment: .leading)
                Button("close", systemImage: "xmark") { model.dismiss() }
                    .labelStyle(.iconOnly)
            }
            .padding()
            .background(.regularMaterial)
            .accessibilityElement(children: .contain)
            .accessibilityAddTraits(.updatesFrequently)
        }
    }
}
