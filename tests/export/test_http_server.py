"""The small server under clients that send nonsense, send nothing, take nothing, or change its files."""

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_sdk.export.held_file import HeldFile
from edge_sdk.export.http_server import HOST, Limits, Server, running

PAGE = b"<p>a page</p>"
LARGE = 32 * 2**20  # bytes: far more than the kernel keeps for a client that does not read
HEADERS = {"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff"}
PATIENCE_S = 30.0  # of a test, for what should come at once


@contextlib.contextmanager
def served(folder: Path, limits: Limits | None = None) -> Iterator[int]:
    """A page and a large file; yields the port."""
    (folder / "page.html").write_bytes(PAGE)
    with open(folder / "large.bin", "wb") as large:
        large.truncate(LARGE)
    with contextlib.ExitStack() as stack:
        files = {f"/{name}": HeldFile(folder / name, {"Content-Type": "text/html"}) for name in os.listdir(folder)}
        for file in files.values():
            stack.callback(file.close)
        listener = stack.enter_context(socket.create_server((HOST, 0)))
        server = Server(listener, files, HEADERS, limits or Limits())
        stack.enter_context(running(server))
        yield server.port


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(tmp_path_factory.mktemp("served")) as port:
        yield port


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=PATIENCE_S)


def request(port: int, path: str = "/page.html", fields: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n{fields}\r\n".encode()


def read_all(client: socket.socket) -> bytes:
    """Until the server closes the connection."""
    out = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(1 << 20):
            out += data
    return out


def exchange(port: int, sent: bytes) -> bytes:
    with connect(port) as client:
        client.sendall(sent)
        return read_all(client)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def is_dropped(client: socket.socket) -> bool:
    """True once the server has closed the connection, whatever the client has not read."""
    poll = select.poll()
    poll.register(client, select.POLLRDHUP)
    return bool(poll.poll(PATIENCE_S * 1000))


# what a request may be


SMUGGLED = "GET /page.html HTTP/1.1\r\nHost: {host}\r\n\r\n"
REFUSED: dict[str, tuple[str, int]] = {
    "a body with its length": ("GET /page.html HTTP/1.1\r\nHost: {host}\r\nContent-Length: 48\r\n\r\n", 400),
    "no body, but its length": ("GET /page.html HTTP/1.1\r\nHost: {host}\r\ncontent-length: 0\r\n\r\n", 400),
    "a length that is none": ("GET /page.html HTTP/1.1\r\nHost: {host}\r\nContent-Length: x\r\n\r\n", 400),
    "a chunked body": ("GET /page.html HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a body of HEAD": ("HEAD /page.html HTTP/1.1\r\nHost: {host}\r\nContent-Length: 48\r\n\r\n", 400),
    "a posted body": ("POST /page.html HTTP/1.1\r\nHost: {host}\r\nContent-Length: 48\r\n\r\n", 501),
    "another method": ("TRACE /page.html HTTP/1.1\r\nHost: {host}\r\n\r\n", 501),
    "a small method": ("get /page.html HTTP/1.1\r\nHost: {host}\r\n\r\n", 501),
    "two hosts": ("GET /page.html HTTP/1.1\r\nHost: {host}\r\nHost: photos.example\r\n\r\n", 400),
    "one host twice": ("GET /page.html HTTP/1.1\r\nHost: {host}\r\nhost: {host}\r\n\r\n", 400),
    "no host": ("GET /page.html HTTP/1.1\r\n\r\n", 400),
    "no host, by an old client": ("GET /page.html HTTP/1.0\r\n\r\n", 400),
    "another host": ("GET /page.html HTTP/1.1\r\nHost: photos.example\r\n\r\n", 403),
    "another host in the target": ("GET http://photos.example/page.html HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    "a host that goes on": ("GET http://{host}.example/page.html HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    "a target without a slash": ("GET page.html HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    "a folded field": ("GET /page.html HTTP/1.1\r\nHost: {host}\r\nA: b\r\n c\r\n\r\n", 400),
    "a space before the colon": ("GET /page.html HTTP/1.1\r\nHost: {host}\r\nContent-Length : 48\r\n\r\n", 400),
    "a field without a colon": ("GET /page.html HTTP/1.1\r\nHost: {host}\r\nA\r\n\r\n", 400),
    "a control character": ("GET /page.html HTTP/1.1\r\nHost: {host}\r\nA: b\x00c\r\n\r\n", 400),
    "a lone return": ("GET /page.html HTTP/1.1\r\nHost: {host}\r\nA: b\rContent-Length: 48\r\n\r\n", 400),
    "lone newlines": ("GET /page.html HTTP/1.1\nHost: {host}\n\n", 400),
    "a newline in a field": ("GET /page.html HTTP/1.1\r\nHost: {host}\r\nA: b\nContent-Length: 48\r\n\r\n", 400),
    "no version": ("GET /page.html\r\n\r\n", 400),
    "two spaces": ("GET  /page.html HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    "no words": ("\x16\x03\x01\r\n\r\n", 400),
    "another version": ("GET /page.html HTTP/2.0\r\nHost: {host}\r\n\r\n", 505),
    "a long target": (f"GET /{'a' * 9000} HTTP/1.1\r\nHost: {{host}}\r\n\r\n", 414),
    "a long target without end": (f"GET /{'a' * 9000}", 414),
    "long fields": (f"GET /page.html HTTP/1.1\r\nHost: {{host}}\r\nA: {'a' * 40000}\r\n\r\n", 431),
    "fields without end": (f"GET /page.html HTTP/1.1\r\nHost: {{host}}\r\nA: {'a' * 40000}", 431),
    "an unknown path": ("GET /other HTTP/1.1\r\nHost: {host}\r\n\r\n", 404),
}


@pytest.mark.parametrize(("head", "expected"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_is_one_answer_with_all_headers_and_the_end_of_the_connection(
    head: str, expected: int, port: int
) -> None:
    """A second request, which another reader might take for the first one's body, is never answered."""
    answer = exchange(port, (head + SMUGGLED).format(host=f"{HOST}:{port}").encode("latin-1"))
    assert status(answer) == expected
    assert answer.count(b"HTTP/1.1 ") == 1 and PAGE not in answer
    fields, _, body = answer.partition(b"\r\n\r\n")
    assert all(f"{name}: {value}".encode() in fields for name, value in HEADERS.items())
    assert b"\r\nConnection: close" in fields and b"\r\nContent-Length: 0" in fields and body == b""
    assert b"\r\nserver:" not in fields.lower() and b"python" not in fields.lower()


ACCEPTED: dict[str, tuple[str, int]] = {
    "one after the other": ("GET /page.html HTTP/1.1\r\nHost: {host}\r\n\r\n" * 3, 3),
    "the whole address": ("GET http://{host}/page.html HTTP/1.1\r\nHost: {host}\r\n\r\n", 1),
    "a question": ("GET /page.html?a=/other HTTP/1.1\r\nHost: {host}\r\n\r\n", 1),
    "an old client's": ("GET /page.html HTTP/1.0\r\nHost: {host}\r\n\r\n" * 2, 1),
    "the last of two": (f"{SMUGGLED}GET /page.html HTTP/1.1\r\nConnection: x, Close\r\nHost: {{host}}\r\n\r\n" * 2, 2),
}


@pytest.mark.parametrize(("heads", "answers"), ACCEPTED.values(), ids=ACCEPTED)
def test_requests_are_answered_in_turn_until_the_client_wants_no_more(heads: str, answers: int, port: int) -> None:
    with connect(port) as client:
        client.sendall(heads.format(host=f"{HOST}:{port}").encode())
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == answer.count(PAGE) == answers
    assert b"\r\nserver:" not in answer.lower()


# what a client may cost


def test_a_client_that_sends_nothing_is_dropped(tmp_path: Path) -> None:
    with served(tmp_path, Limits(head_s=0.1)) as port, connect(port) as client:
        assert read_all(client) == b""


def test_a_client_that_sends_a_byte_at_a_time_is_dropped(tmp_path: Path) -> None:
    """Bytes do not prolong the time of a request."""
    with served(tmp_path, Limits(head_s=0.3)) as port, connect(port) as client:
        end = time.monotonic() + PATIENCE_S
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for byte in request(port, fields=f"A: {'a' * 10_000}\r\n"):
                client.sendall(bytes([byte]))
                if select.select([client], [], [], 0.02)[0]:
                    break
        assert time.monotonic() < end and status(read_all(client)) == 408


def test_a_client_that_takes_nothing_is_dropped(tmp_path: Path) -> None:
    with served(tmp_path, Limits(stall_s=0.2)) as port, connect(port) as client:
        client.sendall(request(port, "/large.bin"))
        assert is_dropped(client)
        assert len(read_all(client)) < LARGE


def test_many_silent_clients_cost_no_threads_and_hold_up_nobody(tmp_path: Path) -> None:
    threads = threading.active_count()
    with served(tmp_path, Limits(head_s=600, connections=32)) as port, contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(port)).sendall(b"GET /")
        answer = exchange(port, request(port, fields="Connection: close\r\n"))
        assert status(answer) == 200 and answer.endswith(PAGE)
        assert threading.active_count() <= threads + 1


@pytest.mark.parametrize(("idle_s", "expected"), [(600.0, 503), (0.0, 200)], ids=["that read", "that hang"])
def test_a_server_full_of_downloads_closes_only_those(idle_s: float, expected: int, tmp_path: Path) -> None:
    limits = Limits(connections=3, idle_s=idle_s)
    with served(tmp_path, limits) as port, contextlib.ExitStack() as stack:
        for _ in range(limits.connections):
            client = stack.enter_context(connect(port))
            client.sendall(request(port, "/large.bin"))
            assert client.recv(100)
        answer = exchange(port, request(port, fields="Connection: close\r\n"))
        assert status(answer) == expected and b"Content-Security-Policy" in answer


# files that change


OTHER = b"<p>another</p>"[: len(PAGE)]


def rewrite(path: Path) -> None:
    """In place, of the same length and time of modification."""
    info = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def replace(path: Path) -> None:
    path.with_name("other").write_bytes(OTHER)
    path.with_name("other").replace(path)


def link(path: Path) -> None:
    path.with_name("other").write_bytes(OTHER)
    path.unlink()
    path.symlink_to("other")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def truncate(path: Path) -> None:
    os.truncate(path, 3)


def lengthen(path: Path) -> None:
    path.write_bytes(PAGE + OTHER)


@pytest.mark.parametrize("change", [rewrite, replace, link, pipe, truncate, lengthen], ids=lambda one: one.__name__)
def test_a_file_that_changed_after_the_start_is_gone(change: Callable[[Path], None], tmp_path: Path) -> None:
    with served(tmp_path) as port:
        change(tmp_path / "page.html")
        answer = exchange(port, request(port, fields="Connection: close\r\n"))
        assert status(answer) == 410 and answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("shortened", [False, True], ids=["rewritten", "shortened"])
def test_a_file_that_changes_while_it_is_sent_is_broken_off(shortened: bool, tmp_path: Path) -> None:
    with served(tmp_path) as port, connect(port) as client:
        client.sendall(request(port, "/large.bin"))
        assert client.recv(100)
        with open(tmp_path / "large.bin", "r+b") as file:
            file.truncate(1) if shortened else file.write(OTHER * (LARGE // len(OTHER)))
        answer = read_all(client)
        assert len(answer) < LARGE and OTHER not in answer
