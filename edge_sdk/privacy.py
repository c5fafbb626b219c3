"""What keeps a process to itself: no telemetry of any library, and no hub but for a hub id that the user named."""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

# Read once, when a library is loaded: ONNX Runtime from 1.29 on sends device, program path and errors to Microsoft.
TELEMETRY_OFF = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
_PROBING = "urllib3.util.connection"
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_offline_by_us = False


def disable_telemetry() -> None:
    """Switch the telemetry of every library off, whatever the environment says; call it before they are loaded."""
    if "onnxruntime" in sys.modules and os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
        logging.getLogger(__name__).warning(
            "onnxruntime was imported before edge_sdk, with its telemetry on; import edge_sdk first, or set "
            "ORT_DISABLE_TELEMETRY=1"
        )
    os.environ.update(TELEMETRY_OFF)
    if hub := sys.modules.get("huggingface_hub.constants"):
        hub.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]


def stay_offline() -> None:
    """Put HF_HUB_OFFLINE in force for this process, until `hub_allowed`."""
    global _offline_by_us
    if not offline_by_user():
        _offline_by_us = True
        os.environ["HF_HUB_OFFLINE"] = "1"
        _tell_hub(offline=True)


def offline_by_user() -> bool:
    """Whether the user has put HF_HUB_OFFLINE, or TRANSFORMERS_OFFLINE, in force."""
    return not _offline_by_us and any(
        os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in _OFFLINE
    )


@contextlib.contextmanager
def hub_allowed() -> Iterator[None]:
    """Within, the hub may be asked, unless the user has put HF_HUB_OFFLINE in force."""
    global _offline_by_us
    if offline_by_user():
        yield
        return
    _offline_by_us = False
    os.environ.pop("HF_HUB_OFFLINE", None)
    _tell_hub(offline=False)
    try:
        yield
    finally:
        stay_offline()


def _tell_hub(offline: bool) -> None:
    """The library reads its variable once, when it is imported."""
    if constants := sys.modules.get("huggingface_hub.constants"):
        constants.HF_HUB_OFFLINE = offline  # type: ignore[attr-defined]


class _Probeless(SourceFileLoader):
    """Loads urllib3's module of connections without the socket that it binds to ::1, to see if there is IPv6.

    What it learns decides which addresses it asks for; with those of both kinds it tries one after the other.
    """

    def exec_module(self, module: ModuleType) -> None:
        built_with_ipv6 = socket.has_ipv6
        socket.has_ipv6 = False
        try:
            super().exec_module(module)
        finally:
            socket.has_ipv6 = built_with_ipv6
        module.HAS_IPV6 = built_with_ipv6  # type: ignore[attr-defined]


class ProbelessFinder:
    """Finds that one module, which diffusers imports by way of requests though no model of a folder needs it."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The module's spec with a loader of ours; None for every other module."""
        if name != _PROBING:
            return None
        spec = PathFinder.find_spec(name, path)  # type: ignore[arg-type]
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Probeless(spec.loader.name, spec.loader.path)
        return spec


def leave_out_probe() -> None:
    """Let urllib3 be imported without a socket, whoever imports it."""
    if ProbelessFinder not in sys.meta_path:
        sys.meta_path.insert(0, ProbelessFinder)
