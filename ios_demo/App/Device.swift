import EdgeModel
import EdgeRuntime
import Foundation
import SwiftUI
import UIKit

/// What this device tells about itself.
@MainActor
enum Device {
    /// Half of the cores: the others are slow ones, for which the fast ones would wait.
    nonisolated static var threads: Int { max(1, ProcessInfo.processInfo.activeProcessorCount / 2) }

    static func reading() -> Reading {
        UIDevice.current.isBatteryMonitoringEnabled = true
        let level = UIDevice.current.batteryLevel  // below 0 where it is not known
        let info = ProcessInfo.processInfo
        return Reading(
            thermal: Reading.Thermal(rawValue: info.thermalState.rawValue), isLowPower: info.isLowPowerModeEnabled,
            battery: level < 0 ? nil : Int((100 * level).rounded()), memory: ProcessMemory.now().anonymous)
    }

    /// Such as iPhone17,1.
    nonisolated static var model: String {
        var info = utsname()
        uname(&info)
        return withUnsafeBytes(of: &info.machine) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    /// The device as its record names it.
    static func machine() -> DeviceMeasurement.Machine {
        let cores = ProcessInfo.processInfo.activeProcessorCount
        return DeviceMeasurement.Machine(
            name: model, system: "\(UIDevice.current.systemName) \(UIDevice.current.systemVersion)",
            cpu: "\(cores) x arm64",
            onnxruntime: nil)
    }

    /// Asks iOS for the seconds that it gives an app which leaves the screen; the result gives them back.
    static func takeLastSeconds(_ expired: @escaping @MainActor () -> Void) -> () -> Void {
        let task = UIApplication.shared.beginBackgroundTask(withName: "the step in hand") {
            MainActor.assumeIsolated(expired)
        }
        return { UIApplication.shared.endBackgroundTask(task) }
    }
}

/// A photo, small.
struct Thumbnail: View {
    let file: URL
    @State private var image: UIImage?

    var body: some View {
        Group {
            if let image {
                Image(uiImage: image).resizable().scaledToFill()
            } else {
                Color.secondary
            }
        }
        .frame(width: 72, height: 72)
        .clipShape(RoundedRectangle(cornerRadius: 8))
        .task {
            image = await UIImage(contentsOfFile: file.path)?.byPreparingThumbnail(
                ofSize: CGSize(width: 216, height: 216))
        }
    }
}
