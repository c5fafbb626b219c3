"""The web page's server: to this computer only, unless another of its addresses is given.

Every address it answers is in a table that is made at the start, so there is no path to escape by and nothing to list.
A file that is changed after the start is no longer served.
"""

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.http_server import HOST, Limits, Server, running
from edge_sdk.export.web_page import addresses, runtime_folder

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
# These make the page cross-origin isolated: the runtime may then use threads. Browsers heed them on loopback and https.
ISOLATION = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
GET_ADDRESS = 0x8915  # SIOCGIFADDR of Linux


@contextlib.contextmanager
def serving(
    bundle: Path, port: int = 0, limits: Limits | None = None, host: str = HOST, runtime: Path | None = None
) -> Iterator[str]:
    """Serve while within; yields the page's address, at ``host``.

    Args:
        port: 0 is any that is free.
        host: an IPv4 address of this computer; 0.0.0.0 is all of them.
        runtime: see `runtime_folder`.

    Raises:
        EdgeSdkError: the runtime is not here, the folder is not a bundle, or host or port cannot be had.
    """
    host = checked_host(host)
    with contextlib.ExitStack() as stack:
        table = addresses(bundle, runtime_folder(runtime), stack)
        try:
            listener = stack.enter_context(socket.create_server((host, port)))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            place = f"port {port}" if host == HOST else f"port {port} of {host}"
            hint = "" if host == HOST else ", and an address of this computer as --host"
            raise EdgeSdkError(f"{place} cannot be used ({why}); give another --port, or 0 for any{hint}") from error
        headers = HEADERS | (ISOLATION if is_loopback(host) else {})
        server = Server(listener, table, headers, limits or Limits())
        stack.enter_context(running(server))
        yield f"http://{host}:{server.port}/"


def checked_host(host: str) -> str:
    """An IPv4 address; raises EdgeSdkError if it is none."""
    if host == "localhost":
        return HOST
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise EdgeSdkError(
            f"host is {host!r}; give an IPv4 address of this computer, or 0.0.0.0 for all of them"
        ) from None


def is_loopback(host: str) -> bool:
    return ipaddress.IPv4Address(host).is_loopback


def urls(url: str) -> list[str]:
    """Where a page can be opened: the address of `serving`, or one for each network if it is at 0.0.0.0."""
    if not url.startswith("http://0.0.0.0:"):
        return [url]
    return [url.replace("0.0.0.0", address) for address in network_addresses()] or [
        url.replace("0.0.0.0", "ADDRESS-OF-THIS-COMPUTER")
    ]


def network_addresses() -> list[str]:
    """IPv4 addresses of this computer's networks, without loopback; none where the system does not list them.

    The kernel is asked (Linux, netdevice(7)): no name is looked up and nothing is sent.
    """
    out = []
    try:
        import fcntl
    except ImportError:  # Windows
        return []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an address, or another system
                answer = fcntl.ioctl(asked, GET_ADDRESS, struct.pack("256s", name.encode()[:15]))
                out.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in out if not is_loopback(address)]
