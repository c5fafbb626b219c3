import EdgeModel
import SwiftUI

/// The second screen: how far learning is, and how the phone bears it.
struct LearningView: View {
    @Bindable var model: AppModel
    let background: Background
    @State private var isDiscarding = false

    private var learning: Learning { model.learning }
    private var isPaused: Bool { learning.phase == .paused }

    var body: some View {
        Form {
            Section {
                Text(status)
                ProgressView(value: Double(learning.step), total: Double(max(1, learning.steps)))
                    .accessibilityLabel(status)
                if learning.steps > 0 { Text(sentence("step_line", ["\(learning.step)", "\(learning.steps)"])) }
                if let left = learning.secondsLeft { Text(sentence("time_left", [clock(left)])) }
                if let loss = learning.loss { Text(sentence("loss_line", [shown(loss, digits: 4)])) }
                if let before = learning.heldOutBefore { Text(sentence("held_out_line", [shown(before, digits: 4)])) }
            }
            Section {
                if let memory = model.reading.memory { Text(sentence("memory_line", [shown(memory, digits: 0)])) }
                if let thermal = model.reading.thermal { Text(sentence("thermal_line", [sentence(thermal.resource)])) }
                if let battery = model.reading.battery { Text(sentence("battery_line", ["\(battery)"])) }
            }
            Section {
                if isPaused && learning.pause?.isAutomatic != true {
                    Button("go_on") {
                        model.goOn()
                        background.askToContinue()
                    }
                } else {
                    Button("pause") { model.pause() }
                        .disabled(learning.phase == .stopping)
                }
                Button("finish") { model.finish() }
                    .disabled(learning.phase == .stopping || learning.step == 0)
                if isPaused { Button("discard", role: .destructive) { isDiscarding = true } }
            }
        }
        .navigationTitle(sentence("learning_title", [model.word]))
        .confirmationDialog("discard_question", isPresented: $isDiscarding, titleVisibility: .visible) {
            Button("discard", role: .destructive) { model.discard() }
        }
    }

    private var status: String {
        switch learning.phase {
        case .preparing: sentence("phase_preparing")
        case .running: sentence(background.isContinued ? "phase_running_on" : "phase_running")
        case .stopping: sentence("phase_stopping")
        case .paused: sentence((learning.pause ?? .interrupted).resource)
        }
    }
}
