import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
    `java-library`
    `java-test-fixtures`
    `maven-publish`
}

kotlin.compilerOptions.jvmTarget = JvmTarget.JVM_17

java {
    sourceCompatibility = JavaVersion.VERSION_17
    targetCompatibility = JavaVersion.VERSION_17
    withSourcesJar()
}

dependencies {
    testFixturesImplementation(libs.junit)
    testFixturesImplementation(libs.kotlin.test.junit)
    testImplementation(libs.junit)
    testImplementation(libs.kotlin.test.junit)
}

tasks.test {
    systemProperty("edge.golden", rootDir.resolve("../tests/golden").path)
}

// Test fixtures are for the modules here only.
(components["java"] as AdhocComponentWithVariants).apply {
    for (name in listOf("testFixturesApiElements", "testFixturesRuntimeElements")) {
        withVariantsFromConfiguration(configurations[name]) { skip() }
    }
}

publishing {
    publications.create<MavenPublication>("core") {
        artifactId = "edge-sdk-core"
        from(components["java"])
    }
}
