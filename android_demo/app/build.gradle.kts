plugins {
    alias(libs.plugins.android.application)
}

android {
    namespace = "edge.sdk.app"
    compileSdk = libs.versions.compileSdk.get().toInt()
    defaultConfig {
        applicationId = "edge.sdk.app"
        minSdk = libs.versions.minSdk.get().toInt()
        targetSdk = libs.versions.targetSdk.get().toInt()
        versionCode = 1
        versionName = libs.versions.edgeSdk.get()
        ndk.abiFilters += listOf("arm64-v8a", "x86_64") // phones, and the emulator
    }
    androidResources.localeFilters += listOf("en", "de")
    buildTypes.getByName("release") {
        isMinifyEnabled = true
        isShrinkResources = true
        proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

dependencies {
    implementation(project(":presenter"))
    implementation(project(":ort"))
}
