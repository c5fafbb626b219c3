"""The web page as a user has it: opened in a headless Chromium, clicked, and listened to."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Keeps what the page's worker says.
LISTEN = """
window.heard = [];
window.Worker = class extends Worker {
  constructor(...given) { super(...given); this.addEventListener('message', ({ data }) => window.heard.push(data)); }
};
"""
IS_PLAIN = "(_, value) => ArrayBuffer.isView(value) ? Array.from(value) : value"  # typed arrays as lists


class Demo:
    """One page in a browser.

    Attributes:
        requests: addresses that the page and its worker asked for.
        problems: what was written to the console, and exceptions.
    """

    def __init__(self, browser: "Browser", url: str) -> None:
        self.page, self.url = browser.new_page(), url
        self.requests: set[str] = set()
        self.problems: list[str] = []
        self.page.on("request", lambda request: self.requests.add(request.url))
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.add_init_script(LISTEN)
        self.page.goto(url)

    def close(self) -> None:
        self.page.close()

    def choose(self, *files: Path, into: str = "#files") -> None:
        self.page.set_input_files(into, [str(file) for file in files])

    def text(self, name: str) -> str:
        return self.page.locator(f"#{name}").text_content() or ""

    def click(self, name: str) -> None:
        self.page.locator(f"#{name}:not([disabled])").click(timeout=120_000)

    def download(self, name: str, path: Path) -> None:
        """Click, and keep the file that comes."""
        with self.page.expect_download() as coming:
            self.click(name)
        assert coming.value.suggested_filename == path.name
        coming.value.save_as(path)

    def set_steps(self, count: int) -> None:
        self.page.evaluate(f"document.getElementById('steps').add(new Option('{count}', '{count}', false, true))")

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """Messages of the worker, pictures and files as lists of bytes."""
        messages = f"heard.filter(({{ type }}) => type === {json.dumps(kind)})"
        return json.loads(self.page.evaluate(f"JSON.stringify({messages}, {IS_PLAIN})"))

    def wait(self, condition: str, timeout: float = 60.0) -> None:
        """Until an expression is true; the page's own policy lets no library evaluate one again and again."""
        end = time.monotonic() + timeout
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"{condition} was not true within {timeout:g} s"
            self.page.wait_for_timeout(50)

    def wait_for(self, kind: str, timeout: float = 300.0) -> None:
        self.wait(f"heard.some(({{ type }}) => type === {json.dumps(kind)} || type === 'error')", timeout)
