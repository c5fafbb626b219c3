"""A bundle's golden vectors on onnxruntime-web: in Node, and in a headless browser from the page's own server."""

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from edge_sdk.errors import EdgeSdkError
from edge_sdk.export import chromium as browser
from edge_sdk.export.web_page import WEB, missing
from edge_sdk.export.web_server import serving
from edge_sdk.system.json import parse_json

LIMIT_S = 1800.0


@dataclass(frozen=True)
class WebRun:
    """What a web runtime made of a bundle, or why it is not here."""

    runtime: str  # with versions, where it is here
    differences: dict[str, float] = field(default_factory=dict)  # worst relative difference of each graph
    bounds: dict[str, float] = field(default_factory=dict)  # what is accepted
    milliseconds: dict[str, float] = field(default_factory=dict)  # of each graph's fastest call
    missing: str | None = None


def node(bundle: Path, calls: int = 1) -> WebRun:
    """Run them in Node, each ``calls`` times.

    Raises:
        EdgeSdkError: the runtime is here and cannot run the bundle.
    """
    name, program = "onnxruntime-web in Node", shutil.which("node")
    if why := ("node is not installed" if program is None else missing()):
        return WebRun(name, missing=why)
    command = [str(program), "runtime/verify.mjs", str(bundle.absolute()), str(calls)]
    try:
        done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise EdgeSdkError(f"{name} did not end within {LIMIT_S:g} s") from error
    if done.returncode:
        raise EdgeSdkError(f"{name} cannot run {bundle}: {(done.stderr.strip() or 'it died').splitlines()[0]}")
    return _run(parse_json(done.stdout))


def chromium(bundle: Path, calls: int = 1) -> WebRun:
    """Run them in a headless Chromium, on ``verify.html``.

    Raises:
        EdgeSdkError: the browser is here and cannot run the bundle.
    """
    name = "onnxruntime-web in Chromium"
    if why := missing() or browser.missing():
        return WebRun(name, missing=why)
    from playwright.sync_api import Error

    with serving(bundle) as url, browser.launched() as launched:
        try:
            page = launched.new_page()
            page.goto(f"{url}verify.html?calls={calls}")
            page.locator("#status[data-done]").wait_for(timeout=LIMIT_S * 1000)
            result = page.evaluate("window.verified")
        except Error as error:
            raise EdgeSdkError(f"{name} cannot run {bundle}: {browser.first_line(error)}") from error
        version = launched.version.partition(".")[0]
    if "error" in result:
        raise EdgeSdkError(f"{name} cannot run {bundle}: {result['error']}")
    return _run(result | {"runtime": f"{result['runtime']} in Chromium {version}"})


def _run(result: dict) -> WebRun:
    """Infinity is null in JSON, and what it is in a value that Playwright hands over."""
    differences = {graph: float("inf") if x is None else x for graph, x in result["differences"].items()}
    return WebRun(result["runtime"], differences, result["bounds"], result["milliseconds"])
