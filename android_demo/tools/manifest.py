"""The app's manifest as it is installed: merged with the libraries' manifests, and made fit for an older framework."""

import copy
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ANDROID = "{http://schemas.android.com/apk/res/android}"
TOOLS = "{http://schemas.android.com/tools}"
APPLICATION_ID = "edge.sdk.app"


def merged(app: Path, libraries: list[str]) -> ElementTree.Element:
    """The app's manifest with what libraries add to it.

    Of the rules of Android's manifest merger it knows those that are needed here: a library's elements are added,
    unless the app has one of the same name; ``tools:node="remove"`` removes it.
    """
    root = ElementTree.fromstring(app.read_text().replace("${applicationId}", APPLICATION_ID))
    root.set("package", APPLICATION_ID)
    for text in libraries:
        library = ElementTree.fromstring(text.replace("${applicationId}", APPLICATION_ID))
        _add(root, library, only={"uses-permission", "uses-feature"})
        for application in library.findall("application"):
            _add(root.find("application"), application)
    for parent in [root, *root.iter("application")]:
        for child in [each for each in parent if each.get(f"{TOOLS}node") == "remove"]:
            parent.remove(child)
    for element in root.iter():
        for name in [each for each in element.attrib if each.startswith(TOOLS)]:
            del element.attrib[name]
    return root


def _add(into: ElementTree.Element, library: ElementTree.Element, only: set[str] | None = None) -> None:
    names = {(each.tag, each.get(f"{ANDROID}name")) for each in into}
    for child in library:
        if (only is None or child.tag in only) and (child.tag, child.get(f"{ANDROID}name")) not in names:
            into.append(copy.deepcopy(child))


def reduced(root: ElementTree.Element, framework: Path) -> tuple[ElementTree.Element, list[str]]:
    """The manifest without what an older framework does not know, and what was left out.

    Args:
        framework: its resources, an APK.
    """
    dump = subprocess.run(["aapt2", "dump", "resources", framework], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"attr/(\w+) PUBLIC", dump))
    root, left_out = copy.deepcopy(root), []
    for element in list(root.iter()):
        for child in [each for each in element if each.tag == "property"]:  # of Android 12
            element.remove(child)
            left_out.append("<property>")
        for name in list(element.attrib):
            short = name.removeprefix(ANDROID)
            value = element.get(name)
            is_known = short in known and (short != "foregroundServiceType" or re.search(rf"\b{value}\b", dump))
            if name.startswith(ANDROID) and not is_known:
                left_out.append(f'{short}="{value}"' if short in known else short)
                del element.attrib[name]
    return root, sorted(set(left_out))


def write(root: ElementTree.Element, file: Path) -> None:
    """Write a manifest as a file."""
    ElementTree.register_namespace("android", ANDROID[1:-1])
    ElementTree.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
