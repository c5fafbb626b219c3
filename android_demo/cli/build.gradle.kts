import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
    application
}

kotlin {
    compilerOptions.jvmTarget = JvmTarget.JVM_17
    // The same sources that the phone runs, on ONNX Runtime for the JVM.
    sourceSets.named("main") { kotlin.srcDir("../ort/src/main/kotlin") }
    sourceSets.named("test") { kotlin.srcDir("../ort/src/test/kotlin") }
}

java {
    sourceCompatibility = JavaVersion.VERSION_17
    targetCompatibility = JavaVersion.VERSION_17
}

application {
    applicationName = "edge-personalize-jvm"
    mainClass = "edge.sdk.cli.MainKt"
}

dependencies {
    implementation(project(":core"))
    implementation(libs.onnxruntime.jvm)
    testImplementation(testFixtures(project(":core")))
    testImplementation(libs.junit)
    testImplementation(libs.kotlin.test.junit)
}

tasks.withType<JavaExec>().configureEach { environment("ORT_DISABLE_TELEMETRY", "1") }

tasks.test {
    environment("ORT_DISABLE_TELEMETRY", "1")
    systemProperty("edge.golden", rootDir.resolve("../tests/golden").path)
}
