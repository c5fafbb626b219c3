import EdgeModel
import SwiftUI

/// The fourth screen: one whole run, measured, as a file to share.
struct MeasuringView: View {
    @Bindable var model: AppModel

    var body: some View {
        Form {
            Section {
                Text("measuring_lead")
                if let bundle = model.bundle { Text(bundle.name) }
                if let work = model.work { WorkLine(work: work) { model.cancel() } }
            }
            Section {
                Button("measuring_start") { model.measure() }
                    .disabled(model.work != nil)
                if let record = model.record {
                    ShareLink(item: record) { Label("measuring_share", systemImage: "square.and.arrow.up") }
                }
                Button("close") { model.leaveMeasuring() }
            }
        }
        .navigationTitle("measuring_title")
    }
}
