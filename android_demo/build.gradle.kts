// Versions are in gradle/libs.versions.toml. From version 9 on Android's plugin brings Kotlin; the version is the catalog's.
plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.android.library) apply false
    alias(libs.plugins.kotlin.jvm) apply false
}

subprojects {
    group = "edge.sdk"
    version = rootProject.libs.versions.edgeSdk.get()
}
