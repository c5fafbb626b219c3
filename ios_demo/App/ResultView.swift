import EdgeModel
import SwiftUI

/// The third screen: before and after, the person's own prompt, the token.
struct ResultView: View {
    @Bindable var model: AppModel
    @State private var prompt = ""
    @State private var isAsking = false

    private var outcome: Outcome { model.outcome }

    var body: some View {
        Form {
            Section {
                if let verdict { Text(verdict) }
                HStack {
                    picture(outcome.before, "before", sentence("picture_before"))
                    picture(outcome.after, "after", sentence("picture_after"))
                }
                if let work = model.work { WorkLine(work: work, cancel: nil) }
            }
            Section {
                TextField(sentence("prompt_label", [model.word]), text: $prompt)
                    .textInputAutocapitalization(.never)
                Button("draw") { model.draw(prompt) }
                    .disabled(model.work != nil)
                if outcome.own != nil { picture(outcome.own, "own", sentence("picture_own", [outcome.prompt])) }
            }
            Section {
                if let token = outcome.token {
                    ShareLink(item: token) { Label("share", systemImage: "square.and.arrow.up") }
                    TokenSaver(model: model, token: token)
                }
                Button("start_again") { if outcome.isKept { model.startAgain() } else { isAsking = true } }
                    .disabled(model.work != nil)
            }
        }
        .navigationTitle(sentence("result_title", [model.word]))
        .onAppear { prompt = outcome.prompt.isEmpty ? model.word : outcome.prompt }
        .confirmationDialog("start_again_question", isPresented: $isAsking, titleVisibility: .visible) {
            Button("delete", role: .destructive) { model.startAgain() }
        }
    }

    private var verdict: String? {
        guard let before = outcome.lossBefore else { return nil }
        guard let after = outcome.lossAfter else { return sentence("verdict_before", [shown(before, digits: 4)]) }
        return sentence("verdict", [shown(before, digits: 4), shown(after, digits: 4)])
    }

    private func picture(_ drawing: Drawing?, _ caption: LocalizedStringKey, _ label: String) -> some View {
        VStack {
            if let drawing {
                DrawingImage(drawing: drawing)
                    .accessibilityLabel(label)
            } else {
                ProgressView()
            }
            Text(caption).font(.caption)
        }
        .frame(maxWidth: .infinity)
    }
}
