plugins {
    alias(libs.plugins.android.library)
    `maven-publish`
}

android {
    namespace = "edge.sdk.ort"
    compileSdk = libs.versions.compileSdk.get().toInt()
    defaultConfig {
        minSdk = libs.versions.minSdk.get().toInt()
        consumerProguardFiles("consumer-rules.pro")
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    // The Android library has no native code for a computer: :cli runs these tests on the library for the JVM.
    testOptions.unitTests.all { it.enabled = false }
    publishing {
        singleVariant("release") { withSourcesJar() }
    }
}

dependencies {
    api(project(":core"))
    implementation(libs.onnxruntime.android)
    testImplementation(testFixtures(project(":core")))
    testImplementation(libs.junit)
    testImplementation(libs.kotlin.test.junit)
}

afterEvaluate {
    publishing.publications.create<MavenPublication>("ort") {
        artifactId = "edge-sdk-ort"
        from(components["release"])
    }
}
