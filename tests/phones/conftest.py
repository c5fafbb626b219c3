"""Tests of the apps never fetch a tool: `make android` and `make ios` set them up, and what is missing is skipped."""

import os
import signal
from pathlib import Path

import pytest

from edge_sdk.export.bundle import export
from tests.phones.apps import APPS, App

os.environ.setdefault("EDGE_SDK_FETCH", "0")
# A shell lets programs in the background ignore Ctrl-C, and what they start does so, too. A handler ends with exec.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def qnn_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model for Qualcomm's processor, in calls of 11 rows."""
    folder = tmp_path_factory.mktemp("qnn") / "bundle"
    export("pocket", folder, target="qnn", rows=11)
    return folder


def built(name: str) -> App:
    app = APPS[name]
    app.build()
    return app


@pytest.fixture(scope="session", params=list(APPS))
def app(request: pytest.FixtureRequest) -> App:
    """Each command line in turn."""
    return built(request.param)


@pytest.fixture(scope="session")
def kotlin() -> App:
    return built("kotlin")


@pytest.fixture(scope="session")
def swift() -> App:
    return built("swift")
