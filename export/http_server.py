"""A small HTTP/1.1 server for a closed table of files: GET and HEAD, one thread, a bound on everything.

Connections are tasks of one event loop, so a client that hangs costs a socket and no thread. Nothing is parsed that
RFC 9112 leaves open to two readings: a request with a body, two hosts or a folded header is refused.
"""

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from edge_sdk.export.held_file import HeldFile

HOST = "127.0.0.1"
HTTP_PORT = 80  # which browsers leave out of a host
QUEUE = 1024  # connections that the kernel keeps for us; a client that it turns away comes back after a second
BATCH = 16  # connections taken from it at once: far below `Limits.connections`, so that none is closed unread
CHUNK = 256 * 1024  # bytes of a file that are read, and must be taken by the client within `Limits.stall_s`
MAX_TARGET, MAX_HEAD = 8 * 1024, 32 * 1024  # bytes

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_REQUEST_LINE = re.compile(rb"(%s) ([!-~]+) (HTTP/\d\.\d)" % _TOKEN.pattern)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LONE_NEWLINE = re.compile(rb"(?<!\r)\n")


@dataclass(frozen=True)
class Limits:
    """What a client may cost."""

    head_s: float = 15.0  # from connecting, or from the last answer, to the end of a request
    stall_s: float = 30.0  # for CHUNK bytes of an answer
    idle_s: float = 1.0  # without progress, before a full server closes a connection that takes an answer
    linger_s: float = 1.0  # for the client to close, after the last answer
    connections: int = 64


class Refusal(Exception):
    """A request that is answered with an error, after which the connection is closed."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


@dataclass(frozen=True)
class Request:
    path: str
    with_body: bool  # GET, not HEAD
    is_last: bool  # the client wants the connection closed


def parse(head: bytes, hosts: Collection[str]) -> Request:
    """Read a request's head, without the empty line at its end.

    Args:
        hosts: the names of this server, with port.

    Raises:
        Refusal: it is no request for this server, or could be read in two ways.
    """
    first, *lines = head.split(b"\r\n")
    method, target, version = _request_line(first)
    fields: dict[bytes, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or _CONTROL.search(value):
            raise Refusal(HTTPStatus.BAD_REQUEST)
        fields.setdefault(name.lower(), []).append(value.strip(b" \t").decode("latin-1"))
    if method not in (b"GET", b"HEAD"):
        raise Refusal(HTTPStatus.NOT_IMPLEMENTED)
    if b"content-length" in fields or b"transfer-encoding" in fields or len(fields.get(b"host", [])) != 1:
        raise Refusal(HTTPStatus.BAD_REQUEST)
    if fields[b"host"][0] not in hosts:  # another site's name that was pointed here
        raise Refusal(HTTPStatus.FORBIDDEN)
    path = target.decode("ascii").partition("?")[0]
    if not path.startswith("/") and path != "*":
        path = path.removeprefix(f"http://{fields[b'host'][0]}")
        if not path.startswith("/"):
            raise Refusal(HTTPStatus.BAD_REQUEST)
    options = {option.strip().lower() for value in fields.get(b"connection", []) for option in value.split(",")}
    return Request(path, method == b"GET", version == b"HTTP/1.0" or "close" in options)


def _request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Method, target and version."""
    if len(line) > MAX_TARGET:
        raise Refusal(HTTPStatus.REQUEST_URI_TOO_LONG)
    parts = _REQUEST_LINE.fullmatch(line)
    if parts is None:
        raise Refusal(HTTPStatus.BAD_REQUEST)
    method, target, version = parts.groups()
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    return method, target, version


@dataclass(eq=False)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytes = b""  # of the next request
    last_progress: float = 0.0  # of the loop's clock: a request was read, or a chunk of an answer taken
    is_waiting: bool = True  # for a request

    def reset(self) -> None:
        """Close it, and have the kernel discard what the client has not read."""
        if not self.writer.is_closing():
            on_for_no_time = struct.pack("ii", 1, 0)
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, on_for_no_time)
            self.writer.transport.abort()


class Server:
    """Answers requests from a table of files.

    Args:
        table: what is served, by the path in the address.
        headers: of every answer; a file's own replace them.
    """

    def __init__(
        self, listener: socket.socket, table: Mapping[str, HeldFile], headers: Mapping[str, str], limits: Limits
    ) -> None:
        self.listener, self.table, self.headers, self.limits = listener, table, headers, limits
        self.port = listener.getsockname()[1]
        self._connections: set[_Connection] = set()

    async def run(self, end: asyncio.Event) -> None:
        """Serve until ``end`` is set."""
        server = await asyncio.start_server(self._accept, sock=self.listener, backlog=BATCH)
        self.listener.listen(QUEUE)  # asyncio takes one number for both
        try:
            await end.wait()
        finally:
            server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer, last_progress=_now())
        writer.transport.set_write_buffer_limits(high=0)  # a drained answer is in the kernel's hands
        try:
            has_room = self._make_room()
            self._connections.add(connection)
            if not has_room:
                return await self._close(connection, HTTPStatus.SERVICE_UNAVAILABLE)
            await self._answer_all(connection)
        except OSError:  # the client went away or takes nothing, or the file was changed
            connection.reset()
        finally:
            self._connections.discard(connection)
            writer.transport.abort()

    def _make_room(self) -> bool:
        """Close the connection that has hung longest, if there are too many; false if all are at work."""
        if len(self._connections) < self.limits.connections:
            return True
        before = _now() - self.limits.idle_s
        hanging = [one for one in self._connections if one.is_waiting or one.last_progress < before]
        if not hanging:
            return False
        longest = min(hanging, key=lambda one: one.last_progress)
        self._connections.discard(longest)
        longest.reset()
        return True

    async def _answer_all(self, connection: _Connection) -> None:
        """One request after the other, until the client wants no more or one is refused."""
        try:
            while (head := await self._read_head(connection)) is not None:
                request = parse(head, self._hosts(connection))
                await self._send_file(connection, request)
                if request.is_last:
                    return await self._close(connection)
        except Refusal as refusal:
            await self._close(connection, refusal.status)

    def _hosts(self, connection: _Connection) -> tuple[str, ...]:
        """What a client may call this server: the address that it has connected to, no other site's name."""
        address = connection.writer.get_extra_info("sockname")[0]
        names = (HOST, "localhost") if address == HOST else (address,)
        return tuple(f"{name}:{self.port}" for name in names) + (names if self.port == HTTP_PORT else ())

    async def _read_head(self, connection: _Connection) -> bytes | None:
        """The next request's head; None if the client closes the connection or sends nothing."""
        connection.is_waiting, connection.last_progress = True, _now()
        try:
            async with asyncio.timeout(self.limits.head_s):
                while b"\r\n\r\n" not in connection.received:
                    if _LONE_NEWLINE.search(connection.received):
                        raise Refusal(HTTPStatus.BAD_REQUEST)
                    if len(connection.received) > MAX_TARGET and b"\r\n" not in connection.received:
                        raise Refusal(HTTPStatus.REQUEST_URI_TOO_LONG)
                    if len(connection.received) > MAX_HEAD:
                        raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                    data = await connection.reader.read(MAX_HEAD)
                    if not data:
                        return None
                    connection.received += data
        except TimeoutError:
            if connection.received:
                raise Refusal(HTTPStatus.REQUEST_TIMEOUT) from None
            return None
        head, _, connection.received = connection.received.partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD:
            raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        connection.is_waiting, connection.last_progress = False, _now()
        return head

    async def _send_file(self, connection: _Connection, request: Request) -> None:
        file = self.table.get(request.path)
        if file is None:
            raise Refusal(HTTPStatus.NOT_FOUND)
        if file.is_changed():
            raise Refusal(HTTPStatus.GONE)
        await self._send(connection, self._head(HTTPStatus.OK, file.size, file.headers, request.is_last))
        if request.with_body:
            for data in file.chunks(CHUNK):
                await self._send(connection, data)

    def _head(self, status: HTTPStatus, length: int, own: Mapping[str, str], is_last: bool) -> bytes:
        """An answer's status line and headers."""
        fields = {"Date": formatdate(usegmt=True), "Content-Length": str(length), **self.headers, **own}
        if is_last:
            fields["Connection"] = "close"
        lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    async def _send(self, connection: _Connection, data: bytes) -> None:
        """Raises TimeoutError if the client does not take it in time."""
        connection.writer.write(data)
        async with asyncio.timeout(self.limits.stall_s):
            await connection.writer.drain()
        connection.last_progress = _now()
        await asyncio.sleep(0)  # the others' turn: nothing above waits if the client is fast

    async def _close(self, connection: _Connection, status: HTTPStatus | None = None) -> None:
        """Send the last answer, and let the client read it: closing with unread input would discard it."""
        connection.is_waiting = True
        if status is not None:
            await self._send(connection, self._head(status, 0, {}, is_last=True))
        connection.writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.linger_s):
                while await connection.reader.read(CHUNK):
                    pass


def _now() -> float:
    return asyncio.get_running_loop().time()


@contextlib.contextmanager
def running(server: Server) -> Iterator[None]:
    """Run a server in a thread of its own, while within."""
    loop, end = asyncio.new_event_loop(), asyncio.Event()

    def serve() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(server.run(end))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
