"""The Android app: what it asks for, what it says, how both builds agree, and that it is made of what phones have."""

import ast
import importlib
import importlib.metadata
import re
import struct
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import edge_sdk
from tests.phones import class_files

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "android_demo"
APP = DEMO / "app" / "src" / "main"
sys.path.insert(0, str(DEMO / "tools"))

TOOLS = ("apk", "build", "manifest", "onnxruntime_jvm", "platform_jar", "toolchain")
apk, build, manifest, onnxruntime_jvm, platform_jar, toolchain = map(importlib.import_module, TOOLS)

ANDROID = manifest.ANDROID
SERVICE = {"FOREGROUND_SERVICE", "FOREGROUND_SERVICE_SPECIAL_USE", "POST_NOTIFICATIONS", "WAKE_LOCK"}
# What ONNX Runtime's own manifest has from 1.29.0 on.
TELEMETRY = """<manifest xmlns:android="http://schemas.android.com/apk/res/android">
    <uses-permission android:name="android.permission.INTERNET" />
    <uses-permission android:name="android.permission.ACCESS_NETWORK_STATE" />
    <application><provider android:name="ai.onnxruntime.TelemetryInitializer" android:exported="false"
        android:authorities="${applicationId}.onnxruntime-telemetry" /></application></manifest>"""


def attribute(element: ElementTree.Element, name: str) -> str | None:
    return element.get(ANDROID + name)


def library() -> str:
    """The manifest of the ONNX Runtime that the app is tested with."""
    try:
        with zipfile.ZipFile(onnxruntime_jvm.archive()) as archive:
            return archive.read("AndroidManifest.xml").decode()
    except toolchain.MissingTool as tool:
        pytest.skip(str(tool))


@pytest.mark.parametrize("kind", ["of the tested version", "with telemetry"])
def test_merged_manifest_has_no_permission_but_the_services_and_no_provider_of_onnxruntime(kind: str) -> None:
    merged = manifest.merged(APP / "AndroidManifest.xml", [TELEMETRY if kind == "with telemetry" else library()])
    permissions = [attribute(each, "name") for each in merged.iter("uses-permission")]
    assert sorted(permissions) == sorted(f"android.permission.{name}" for name in SERVICE)
    assert [attribute(each, "name") for each in merged.iter("provider")] == [".ShareProvider"]


def test_merger_adds_what_is_not_removed() -> None:
    more = TELEMETRY.replace("TelemetryInitializer", "Other").replace("INTERNET", "CAMERA")
    merged = manifest.merged(APP / "AndroidManifest.xml", [more])
    assert "android.permission.CAMERA" in [attribute(each, "name") for each in merged.iter("uses-permission")]
    assert "ai.onnxruntime.Other" in [attribute(each, "name") for each in merged.iter("provider")]


def test_nobody_but_the_launcher_and_the_shell_gets_in() -> None:
    merged = manifest.merged(APP / "AndroidManifest.xml", [])
    components = [each for kind in ("activity", "service", "provider", "receiver") for each in merged.iter(kind)]
    public = [each for each in components if attribute(each, "exported") == "true"]
    exported = {attribute(each, "name"): attribute(each, "permission") for each in public}
    assert exported == {".MainActivity": None, ".MeasureService": "android.permission.DUMP"}
    assert all(attribute(each, "exported") for each in components)


def test_services_have_a_type_and_its_property() -> None:
    merged = manifest.merged(APP / "AndroidManifest.xml", [])
    services = list(merged.iter("service"))
    assert len(services) == 2
    for service in services:
        assert attribute(service, "foregroundServiceType") == "specialUse"
        names = [attribute(each, "name") for each in service.iter("property")]
        assert names == ["android.app.PROPERTY_SPECIAL_USE_FGS_SUBTYPE"]


def test_tokens_and_photos_leave_by_no_backup() -> None:
    application = manifest.merged(APP / "AndroidManifest.xml", []).find("application")
    assert application is not None
    assert attribute(application, "allowBackup") == "false" and attribute(application, "fullBackupContent") == "false"
    rules = ElementTree.parse(APP / "res/xml/data_extraction_rules.xml").getroot()
    assert [rule.tag for rule in rules] == ["cloud-backup", "device-transfer"]
    for rule in rules:
        assert {each.get("domain") for each in rule} == {"root", "file", "database", "sharedpref", "external"}
        assert {each.tag for each in rule} == {"exclude"}


def test_telemetry_is_off_before_any_class_of_onnxruntime() -> None:
    created = (APP / "kotlin/edge/sdk/app/EdgeApplication.kt").read_text().split("override fun onCreate()")[1]
    statements = [
        line.strip() for line in created.splitlines()[1:] if line.strip() and not line.strip().startswith("//")
    ]
    assert statements[0].startswith("Telemetry.switchOff")


# The words


def strings(folder: str) -> dict[str, str]:
    root = ElementTree.parse(APP / "res" / folder / "strings.xml").getroot()
    return {each.get("name", ""): each.text or "" for each in root if each.get("translatable") != "false"}


def places(text: str) -> list[str]:
    return sorted(re.findall(r"%\d+\$[.\d]*[sdf]", text))


ENGLISH, GERMAN = strings("values"), strings("values-de")


def test_both_languages_say_the_same_things() -> None:
    assert list(ENGLISH) == list(GERMAN)
    assert [name for name in ENGLISH if places(ENGLISH[name]) != places(GERMAN[name])] == []
    assert [name for name in ENGLISH if "%" in re.sub(r"%\d+\$[.\d]*[sdf]|%%", "", ENGLISH[name] + GERMAN[name])] == []


def test_every_key_of_the_presenter_is_a_sentence_with_its_arguments() -> None:
    source = (DEMO / "presenter/src/main/kotlin/edge/sdk/presenter/Message.kt").read_text()
    keys = {
        f"message_{name.lower()}": int(count) for name, count in re.findall(r"^    ([A-Z_]+)\((\d)\),", source, re.M)
    }
    assert keys == {name: len(places(text)) for name, text in ENGLISH.items() if name.startswith("message_")}


def test_no_string_is_missing_and_none_is_unused() -> None:
    files = [*APP.rglob("*.kt"), APP / "AndroidManifest.xml", *(APP / "res/layout").glob("*.xml")]
    text = "\n".join(each.read_text() for each in files)
    used = set(re.findall(r"(?:R\.string\.|@string/)(\w+)", text)) - {"app_name", "special_use"}
    assert used == set(ENGLISH)


def test_texts_grow_with_the_font_and_pictures_have_words() -> None:
    for file in (APP / "res/layout").glob("*.xml"):
        for element in ElementTree.parse(file).iter():
            if element.tag == "TextView":
                assert (attribute(element, "textAppearance") or "").startswith("@style/"), file.name
            assert attribute(element, "textSize") is None and attribute(element, "maxLines") is None
            if element.tag in ("TextView", "Button", "EditText"):
                assert attribute(element, "layout_height") == "wrap_content", f"{file.name} cuts large fonts"
            if element.tag == "EditText":
                target = attribute(element, "id")
                labels = [each for each in ElementTree.parse(file).iter() if attribute(each, "labelFor")]
                assert target and target.replace("+", "") in [attribute(each, "labelFor") for each in labels]


# Both builds


def gradle(module: str) -> str:
    return (DEMO / module / "build.gradle.kts").read_text()


def test_both_builds_have_the_same_versions() -> None:
    versions = tomllib.loads((DEMO / "gradle/libs.versions.toml").read_text())["versions"]
    assert versions["kotlin"] == toolchain.KOTLIN.version
    assert versions["onnxruntime"] == onnxruntime_jvm.VERSION
    assert versions["edgeSdk"] == edge_sdk.__version__


def test_both_builds_have_the_same_modules_and_sources() -> None:
    included = re.findall(r'":(\w+)"', (DEMO / "settings.gradle.kts").read_text())
    assert sorted(included) == sorted([*build.MODULES, "app"])
    with_sources = {each.relative_to(DEMO).parts[0] for each in DEMO.glob("*/src/main/kotlin")}
    assert with_sources <= set(included)
    for name, module in build.MODULES.items():
        projects = re.findall(r'(?:api|implementation)\(project\(":(\w+)"\)\)', gradle(name))
        own = set(projects) | ({"ort"} if '"../ort/src/main/kotlin"' in gradle(name) else set())
        assert own == set(module.uses), name
    on_phone = {"app"}
    for _ in included:
        on_phone |= {used for name in on_phone for used in re.findall(r'project\(":(\w+)"\)\)', gradle(name))}
    assert on_phone == set(apk.MODULES)


def test_wrapper_is_pinned_and_has_no_jar() -> None:
    properties = (DEMO / "gradle/wrapper/gradle-wrapper.properties").read_text()
    assert re.search(r"^distributionSha256Sum=[0-9a-f]{64}$", properties, re.M)
    assert not list(DEMO.rglob("gradle-wrapper.jar"))


# What it is made of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an APK, made once."""
    folder = tmp_path_factory.mktemp("apk")
    try:
        assert apk.make(folder) == 0
    except toolchain.MissingTool as tool:
        pytest.skip(str(tool))
    return folder


def own_classes(folder: Path) -> list[class_files.ClassFile]:
    return [class_files.read(each.read_bytes()) for each in (folder / "classes").rglob("*.class")]


def test_apk_is_verified_and_its_libraries_are_made_for_pages_of_16_kb(made: Path) -> None:
    with zipfile.ZipFile(made / "app.apk") as archive:
        libraries = [each for each in archive.infolist() if each.filename.endswith(".so")]
        assert len(libraries) == 2
        for entry in libraries:
            data = archive.read(entry)
            assert entry.compress_type == zipfile.ZIP_STORED
            (headers,) = struct.unpack_from("<Q", data, 32)
            size, count = struct.unpack_from("<HH", data, 54)
            loads = [struct.unpack_from("<IIQQQQQQ", data, headers + i * size) for i in range(count)]
            assert all(load[7] % 0x4000 == 0 for load in loads if load[0] == 1), entry.filename


# Of Java's own classes, what Android has had since 7.0 (API 24) and 8.0 (API 26) and not in 6.0. Source: the classes'
# pages in Android's reference, "Added in API level".
SINCE_24 = {"addExact", "multiplyExact", "toIntExact", "putIfAbsent", "computeIfAbsent", "computeIfPresent"}
SINCE_24_CLASSES = ("java/util/Optional.", "java/util/stream/", "java/lang/String.codePoints(")
SINCE_26 = ("java/nio/file/", "java/time/", "java/io/File.toPath(", "java/lang/Long.toUnsignedString(J)")


def test_java_of_the_phones_modules_is_that_of_the_oldest_android(made: Path) -> None:
    with zipfile.ZipFile(platform_jar.old_platform()) as platform:
        names = set(platform.namelist())

        @cache
        def known(owner: str) -> class_files.ClassFile | None:
            return class_files.read(platform.read(f"{owner}.class")) if f"{owner}.class" in names else None

        def has(owner: str, member: tuple[str, str]) -> bool:
            if (found := known(owner)) is None:
                return False
            return member in found.members or any(has(parent, member) for parent in found.parents)

        newer = set()
        for one in own_classes(made):
            for owner, name, descriptor in one.references:
                if owner.startswith(("java/", "javax/")) and not has(owner, (name, descriptor)):
                    newer.add(f"{owner}.{name}{descriptor}")
    allowed = {each for each in newer if each.startswith(SINCE_26) or each.split(".")[1].split("(")[0] in SINCE_24}
    allowed |= {each for each in newer if re.fullmatch(r"java/lang/\w+\.hashCode\(.\)I", each)}  # static ones, 24
    allowed |= {each for each in newer if each.startswith(SINCE_24_CLASSES)}
    assert sorted(newer - allowed) == []


@cache
def stub_classes(package: str) -> dict[str, tuple[set[str], list[str]]]:
    """Classes of a package of API 36, from the stubs of PyPI: members and bases by qualified name."""
    files = importlib.metadata.files("chaquopy-stubs-android") or []
    place = f"{package.replace('.', '/').replace('android', 'android-stubs', 1)}/__init__.pyi"
    found: dict[str, tuple[set[str], list[str]]] = {}

    def visit(node: ast.ClassDef, name: str) -> None:
        members = {each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.ClassDef)}
        fields = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
        members |= {each.id for each in fields if isinstance(each, ast.Name)}
        found[name] = members, [ast.unparse(each).split("[")[0] for each in node.bases]
        for each in node.body:
            if isinstance(each, ast.ClassDef):
                visit(each, f"{name}.{each.name}")

    for file in files:
        if str(file) == place:
            for node in ast.parse(Path(str(file.locate())).read_text()).body:
                if isinstance(node, ast.ClassDef):
                    visit(node, f"{package}.{node.name}")
    return found


def in_api_36(owner: str, member: str) -> bool:
    package = ".".join(part for part in owner.split(".") if part[0].islower())
    classes = stub_classes(package)
    if owner not in classes:
        return False
    members, bases = classes[owner]
    scopes = [package, *(owner.rsplit(".", i)[0] for i in range(1, owner.count(".") - package.count(".")))]
    full = [base if base.startswith("android.") else f"{scope}.{base}" for base in bases for scope in scopes]
    return member in members or any(in_api_36(base, member) for base in full if base != owner)


OF_OBJECT = {"getClass", "hashCode", "equals", "toString", "<init>", "ordinal", "values"}


def references(folder: Path) -> Iterator[tuple[str, str]]:
    for one in own_classes(folder):
        for owner, name, _ in one.references:
            if owner.startswith("android/") and name not in OF_OBJECT:
                yield owner.replace("/", ".").replace("$", "."), name


def test_every_member_of_android_that_the_app_uses_is_in_api_36(made: Path) -> None:
    try:
        importlib.metadata.distribution("chaquopy-stubs-android")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("chaquopy-stubs-android is missing; pip install chaquopy-stubs-android")
    used = set(references(made))
    assert len(used) > 150
    assert sorted(f"{owner}.{name}" for owner, name in used if not in_api_36(owner, name)) == []
    assert not in_api_36("android.app.Service", "onTimeOut")


def test_presenter_passes_its_tests() -> None:
    command = [sys.executable, str(DEMO / "tools/build.py"), "test", "presenter"]
    result = subprocess.run(command, capture_output=True, text=True)
    last = result.stdout.strip().splitlines()[-1]
    if last.endswith("1 modules left out"):
        pytest.skip(next(line for line in result.stdout.splitlines() if line.startswith("left out")))
    assert result.returncode == 0, result.stdout[-3000:]
    assert int(last.split()[0]) >= 60
