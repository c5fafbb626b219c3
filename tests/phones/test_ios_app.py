"""The iOS app: its words, what it declares to Apple, and that it type-checks against our own declarations."""

import json
import plistlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "ios_demo"
APP, SOURCES = DEMO / "App", DEMO / "Sources"
CATALOG = json.loads((APP / "Localizable.xcstrings").read_text("utf-8"))
ANDROID = ROOT / "android_demo/presenter/src/main/kotlin/edge/sdk/presenter/Message.kt"
PLACE = re.compile(r"%\d+\$@")


def code(folder: Path, name: str = "*.swift") -> str:
    """All Swift of a folder, without comments."""
    return "\n".join(re.sub(r"//.*", "", path.read_text("utf-8")) for path in sorted(folder.rglob(name)))


def values(language: str) -> dict[str, str]:
    return {key: one["localizations"][language]["stringUnit"]["value"] for key, one in CATALOG["strings"].items()}


def cases(enum: str, file: str) -> list[str]:
    """The cases of an enumeration in the model, in snake case; they come before its other members."""
    names: list[str] = []
    for line in code(SOURCES / "EdgeModel", file).partition(f"enum {enum}:")[2].splitlines()[1:]:
        if line.strip() and not line.strip().startswith("case "):
            break
        names += re.findall(r"\w+", line.strip().removeprefix("case "))
    assert names, enum
    return [re.sub("([A-Z])", r"_\1", name).lower() for name in names]


FAMILIES = {
    "message": ("Key", "Message.swift"),
    "pause": ("Pause", "Reading.swift"),
    "thermal": ("Thermal", "Reading.swift"),
    "work": ("Kind", "Screens.swift"),
}


def used() -> set[str]:
    """Keys that the app asks the catalog for: literals of views, and those made of names of states."""
    literals = set(re.findall(r'"([a-z]+(?:_[a-z]+)*)"', code(APP)))
    made = {f"{family}_{case}" for family, where in FAMILIES.items() for case in cases(*where)}
    others = {"xmark", "checkmark", "onnx", "coreml", "bundles", "session", "compiled"}  # symbols, formats, folders
    return (literals - others) | made


def test_both_languages_say_everything_with_the_same_places() -> None:
    assert CATALOG["sourceLanguage"] == "en" and CATALOG["version"] == "1.0"
    for key, one in CATALOG["strings"].items():
        assert set(one["localizations"]) == {"en", "de"}, key
        assert all(unit["stringUnit"]["state"] == "translated" for unit in one["localizations"].values()), key
        english, german = (sorted(PLACE.findall(values(language)[key])) for language in ("en", "de"))
        assert english == german == [f"%{i + 1}$@" for i in range(len(english))], key
        assert "%" not in PLACE.sub("", values("en")[key]).replace(" %", ""), key


def test_every_key_that_is_used_exists_and_every_other_is_gone() -> None:
    assert used() == set(CATALOG["strings"])


def test_a_message_has_as_many_places_as_arguments() -> None:
    arguments = re.findall(
        r"case (\w+)(?:  // (.*))?$", (SOURCES / "EdgeModel/Message.swift").read_text(), re.MULTILINE
    )
    counts = {name: len(about.split(", ")) if about else 0 for name, about in arguments}
    counts["photosUnreadable"] = 2  # how many, of how many
    for name, count in counts.items():
        key = "message_" + re.sub("([A-Z])", r"_\1", name).lower()
        assert len(PLACE.findall(values("en")[key])) == count, key


@pytest.mark.skipif(not ANDROID.exists(), reason="the Android app is not here")
def test_the_apps_have_the_same_messages() -> None:
    names = re.findall(r"^    ([A-Z_]+)\(\d\)", ANDROID.read_text("utf-8"), re.MULTILINE)
    assert sorted(name.lower() for name in names) == sorted(cases(*FAMILIES["message"]))


def test_the_privacy_manifest_says_what_the_code_does() -> None:
    privacy = plistlib.loads((APP / "PrivacyInfo.xcprivacy").read_bytes())
    assert privacy["NSPrivacyTracking"] is False
    assert privacy["NSPrivacyTrackingDomains"] == privacy["NSPrivacyCollectedDataTypes"] == []
    # Apple's list of APIs that need a reason, as far as Swift and C of ours could call them.
    apis = {
        "FileTimestamp": r"\b(l|f)?stat(at)?\(|(creation|modification|contentModification)Date",
        "SystemBootTime": r"\bsystemUptime\b|mach_absolute_time",
        "DiskSpace": r"systemFreeSize|volumeAvailableCapacity|\bstatv?fs\(",
        "UserDefaults": r"UserDefaults|AppStorage",
        "ActiveKeyboards": r"activeInputModes",
    }
    source = code(SOURCES) + code(APP)
    needed = {f"NSPrivacyAccessedAPICategory{name}" for name, pattern in apis.items() if re.search(pattern, source)}
    declared = {one["NSPrivacyAccessedAPIType"]: one for one in privacy["NSPrivacyAccessedAPITypes"]}
    assert set(declared) == needed
    for one in declared.values():
        assert all(re.fullmatch(r"[0-9A-F]{4}\.1", reason) for reason in one["NSPrivacyAccessedAPITypeReasons"])


def test_nothing_opens_a_socket_or_asks_for_a_permission() -> None:
    info = plistlib.loads((APP / "Info.plist").read_bytes())
    assert not [key for key in info if key.endswith("UsageDescription")]
    source = code(SOURCES) + code(APP)
    assert not re.search(r"URLSession|import Network\b|NWConnection|AsyncImage|https?://", source)


def test_entitlements_and_background_tasks_are_those_of_the_code() -> None:
    entitlements = plistlib.loads((APP / "EdgeApp.entitlements").read_bytes())
    assert entitlements == {"com.apple.developer.kernel.increased-memory-limit": True}
    info = plistlib.loads((APP / "Info.plist").read_bytes())
    assert info["UIBackgroundModes"] == ["processing"]
    made = re.findall(r'"\\\(name\)\.(.+?)"', code(APP))
    known = [re.sub(r"\\\(.*", "*", one) for one in made]
    assert sorted(info["BGTaskSchedulerPermittedIdentifiers"]) == sorted(
        f"$(PRODUCT_BUNDLE_IDENTIFIER).{one}" for one in known
    )


@pytest.mark.parametrize(
    "framework", ["BackgroundTasks", "CoreGraphics", "PhotosUI", "UIKit", "UniformTypeIdentifiers"]
)
def test_a_framework_is_named_in_one_file_of_the_app(framework: str) -> None:
    assert sum(f"import {framework}\n" in path.read_text() for path in APP.glob("*.swift")) == 1


@pytest.fixture(scope="session")
def typecheck(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the type check with further files of the app."""
    folder = tmp_path_factory.mktemp("swift")

    def run(**files: str) -> subprocess.CompletedProcess[str]:
        paths = [folder / f"{name}.swift" for name in files]
        for path, text in zip(paths, files.values(), strict=True):
            path.write_text(text)
        done = subprocess.run([DEMO / "tools/typecheck.sh", *paths], capture_output=True, text=True)
        if done.returncode == 3:
            pytest.skip(done.stderr.strip().splitlines()[-1])
        return done

    return run


def readme() -> str:
    """The README's Swift as a file: what it uses without a definition becomes arguments of a function."""
    (block,) = re.findall(r"```swift\n(.*?)```", (DEMO / "README.md").read_text("utf-8"), re.DOTALL)
    lines = block.splitlines()
    imports = [line for line in lines if line.startswith("import ")]
    body = "\n".join(line for line in lines if line not in imports)
    function = f"func embedded(folder: URL, files: [URL], output: URL) async throws {{\n{body}\n_ = picture\n}}\n"
    return "\n".join(["import Foundation", *imports, function])


def test_the_app_and_the_readme_s_code_type_check(typecheck: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = typecheck(Readme=readme())
    assert done.returncode == 0, done.stderr
    assert re.search(r"^type check: .* 13 files of the app, against 9 stubs$", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import EdgeModel\n@MainActor func a(m: AppModel) { m.lern() }", "has no member 'lern'"),
        ("import EdgeModel\nfunc a(m: AppModel) { m.pause() }", "main actor-isolated"),
        ('import SwiftUI\nfunc a() -> Text { Text("a").bold() }', "has no member 'bold'"),
    ],
    ids=["a misspelt member", "from another thread", "what no stub declares"],
)
def test_the_type_check_finds(
    text: str, error: str, typecheck: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = typecheck(Planted=text)
    assert done.returncode == 1 and error in done.stderr
