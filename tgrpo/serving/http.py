"""A small HTTP server for this machine only: gateways and figures."""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

import msgspec

from tgrpo.errors import SettingsError
from tgrpo.serving.owner import owner_of_port
from tgrpo.serving.server import check_host

log = logging.getLogger(__name__)
MAX_BODY = 24 * 2**20
"""Most bytes of a request: base64 takes a third more than the raw 16 MiB."""
CONNECTIONS = 32
IDLE_S = 10.0
"""Time after which a silent connection is closed [s]."""


@dataclass(frozen=True)
class Response:
    """An HTTP answer."""

    body: bytes
    status: int = 200
    kind: str = "application/json"


Route: TypeAlias = Callable[[bytes], Response]


class Http(ThreadingHTTPServer):
    """Serves some routes in threads, to a limited number of connections.

    It speaks in the clear, so it listens on this machine only; from elsewhere, come through SSH.
    """

    daemon_threads = True

    def __init__(self, routes: Mapping[str, Route], host: str = "127.0.0.1", port: int = 0) -> None:
        """Listens and starts.

        Args:
            routes: Answers by method and path, for example ``GET /healthz``.
            host: An address of this machine.
            port: 0 takes a free one.

        Raises:
            SettingsError: The host is not this machine, or the port is taken.
        """
        check_host(host, encrypted=False)
        self.routes = dict(routes)
        self._free = threading.Semaphore(CONNECTIONS)
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {host}:{port}: {error.strerror}{owner_of_port(port)}. Choose another port."
            ) from error
        self._thread = threading.Thread(target=self.serve_forever, name="http", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def close(self) -> None:
        """Stops listening."""
        self.shutdown()
        self.server_close()
        self._thread.join(timeout=5.0)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts a thread for a connection, unless there are too many."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Notes a connection that broke; nobody is told more."""
        log.debug("a connection of %s broke: %r", client_address, sys.exc_info()[1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server: Http

    def do_GET(self) -> None:
        """Answers a GET."""
        self._answer("GET", b"")

    def do_POST(self) -> None:
        """Answers a POST of JSON; a web page cannot send that to us without asking, which nobody answers."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdecimal() or len(length) > 9 or int(length) > MAX_BODY:
            self.close_connection = True  # the body is not read
            self._send(failure(413, "invalid", f"a request has a Content-Length of at most {MAX_BODY} bytes."))
        elif self.headers.get_content_type() != "application/json":
            self.close_connection = True
            self._send(failure(415, "invalid", "send application/json."))
        else:
            self._answer("POST", self.rfile.read(int(length)))

    def log_message(self, format: str, *args: object) -> None:
        """Notes each request."""
        log.debug(format, *args)

    def version_string(self) -> str:
        """Says as little as possible."""
        return "tgrpo"

    def _answer(self, method: str, body: bytes) -> None:
        route = self.server.routes.get(f"{method} {self.path}")
        if not _is_here(self.headers.get("Host", "")):
            self._send(failure(403, "invalid", "ask this machine by its own name, localhost or 127.0.0.1."))
        elif route is None:
            self._send(failure(404, "invalid", f"there is {', '.join(sorted(self.server.routes))}."))
        else:
            try:
                response = route(body)
            except Exception:
                log.exception("%s %s failed", method, self.path)
                response = failure(500, "policy", "the server failed; its log has more.")
            self._send(response)

    def _send(self, response: Response) -> None:
        self.connection.settimeout(IDLE_S)
        with_errors = (BrokenPipeError, ConnectionResetError, socket.timeout)
        try:
            self.send_response(response.status)
            self.send_header("Content-Type", response.kind)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)
        except with_errors:
            self.close_connection = True


def failure(status: int, code: str, message: str) -> Response:
    """An error as JSON: a code for programs and a message for people."""
    return Response(msgspec.json.encode({"error": code, "message": message}), status)


def _is_here(host: str) -> bool:
    """Whether a Host header names this machine; a page that was sent here by a forged name service does not."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
