"""A headless Chromium that is driven over a pipe, by the DevTools protocol: no port, no driver, no dependency."""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.json import parse_json

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Without the last of these it looks up its maker's hosts, whatever the others say.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
    # Whatever it would report or look up has no name or address that resolves: only this computer's own has.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-proxy-server",
    "--no-pings",
    "--disable-breakpad",
    "--disable-domain-reliability",
    "--disable-client-side-phishing-detection",
    "--metrics-recording-only",
    "--disable-default-apps",
    "--no-default-browser-check",
)
START_S = 60.0


def executable() -> str | None:
    """The browser's path, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One page: commands go to it, its events and those of its workers are kept in ``events``."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._buffer, self._last, self._session = b"", 0, ""
        self._answers: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []

    def attach(self) -> None:
        """Make the page."""
        target = self.send("Target.createTarget", {"url": "about:blank"}, timeout=START_S)["targetId"]
        self._session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self._watch(self._session)
        self.send("Page.enable")

    def open(self, url: str) -> None:
        """Load an address."""
        self.send("Page.navigate", {"url": url})
        self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(url)}", START_S)

    def _watch(self, session: str) -> None:
        """Report requests and errors of a page or worker, and of the workers that it starts."""
        follow = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
        for method, params in (
            ("Network.enable", {}),
            ("Runtime.enable", {}),
            ("Target.setAutoAttach", follow),
            ("Runtime.runIfWaitingForDebugger", {}),
        ):
            self._post(method, params, session)

    def send(self, method: str, params: dict[str, Any] | None = None, timeout: float = 30.0) -> dict[str, Any]:
        """One command and its result; raises EdgeSdkError if it fails or takes too long."""
        number = self._post(method, params or {}, self._session)
        end = time.monotonic() + timeout
        while number not in self._answers:
            self._receive(method, end - time.monotonic())
        answer = self._answers.pop(number)
        if "error" in answer:
            raise EdgeSdkError(f"chromium: {method}: {answer['error']['message']}")
        return answer["result"]

    def evaluate(self, expression: str, timeout: float = 30.0) -> Any:
        """The value of an expression, awaited if it is a promise."""
        params = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        found = self.send("Runtime.evaluate", params, timeout)
        if "exceptionDetails" in found:
            said = found["exceptionDetails"].get("exception", {}).get("description", "an exception")
            raise EdgeSdkError(f"chromium: {said.splitlines()[0]}")
        return found["result"].get("value")

    def wait(self, condition: str, timeout: float = 30.0) -> None:
        """Wait until an expression is true; raises EdgeSdkError if it takes too long."""
        end = time.monotonic() + timeout
        while not self.evaluate(condition):
            if time.monotonic() > end:
                raise EdgeSdkError(f"chromium: {condition} was not true within {timeout:g} s")
            time.sleep(0.05)

    def _post(self, method: str, params: dict[str, Any], session: str) -> int:
        self._last += 1
        message = {"id": self._last, "method": method, "params": params} | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        return self._last

    def _receive(self, method: str, timeout: float) -> None:
        """Take in what has come."""
        ready, _, _ = select.select([self._read], [], [], max(timeout, 0.0))
        data = os.read(self._read, 1 << 20) if ready else None
        if not data:
            raise EdgeSdkError(f"chromium: {'no answer to ' + method if data is None else 'it ended'}")
        *messages, self._buffer = (self._buffer + data).split(b"\0")
        for message in map(parse_json, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self.events.append(message)
                if message["method"] == "Target.attachedToTarget" and message.get("sessionId"):
                    self._watch(message["params"]["sessionId"])


@contextlib.contextmanager
def opened(*flags: str) -> Iterator[Page]:
    """An empty page of a browser of its own, with a profile of its own; both are gone afterwards.

    Raises:
        EdgeSdkError: there is no browser, or it does not start.
    """
    program = executable()
    if program is None:
        raise EdgeSdkError("chromium is not installed; install it, such as by apt-get install chromium")
    with contextlib.ExitStack() as stack:
        profile = stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-sdk-", ignore_cleanup_errors=True))
        ours, theirs = _pipes(stack), {}
        (theirs[3], write), (read, theirs[4]) = ours
        actions: list[tuple] = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in theirs.items()]
        actions += [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
        command = [program, *FLAGS, f"--user-data-dir={profile}", *flags]
        places = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), profile)
        process = os.posix_spawn(program, command, os.environ | places, file_actions=actions, setpgroup=0)
        stack.callback(_end, process)
        for end in theirs.values():
            os.close(end)
        page = Page(read, write)
        page.attach()
        yield page


def _pipes(stack: contextlib.ExitStack) -> list[tuple[int, int]]:
    """Two pipes, (read, write), whose ends have numbers that a child's 3 and 4 cannot overwrite."""
    pipes = []
    for ours in (1, 0):  # which end stays here
        ends = []
        for end in os.pipe():
            ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
            os.close(end)
        stack.callback(os.close, ends[ours])
        pipes.append((ends[0], ends[1]))
    return pipes


def _end(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
