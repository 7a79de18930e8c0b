"""The page of a running session, on this machine only: pictures, who is in control, and the buttons of the operator.

Another page in the same browser must not be able to press a button. So a request needs the name of this host, which a
rebound name does not have, and a word needs the token that stands in the page, in a header that no other page may send.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tgrpo.errors import SettingsError

PAGE = Path(__file__).with_name("live.html")
TOKEN = "X-Session-Token"
LIMIT = 4096
"""Longest request that is read [bytes]."""
_CAMERA = re.compile(r"/camera/([A-Za-z0-9_-]{1,64})\.jpg")
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'",
}


class LivePage:
    """Serves the page until it is closed.

    Attributes:
        address: Where it is.
    """

    def __init__(
        self,
        port: int,
        state: Callable[[], dict[str, Any]],
        picture: Callable[[str], bytes | None],
        say: Callable[[str, str], None],
    ) -> None:
        """Listens on the loopback interface.

        Args:
            port: 0 takes a free one.
            state: What goes on; called from other threads.
            picture: JPEG of a camera's newest picture, or None; the same.
            say: Hears a word and its reason; raises :class:`SettingsError` for one that it does not know.

        Raises:
            SettingsError: The port is taken.
        """
        try:
            self._server = _Server(port)
        except OSError as error:
            raise SettingsError(
                f"the page cannot listen on port {port}: {error.strerror}. Choose another one."
            ) from error
        self._server.state, self._server.picture, self._server.say = state, picture, say
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: _Server
    timeout = 10.0

    def do_GET(self) -> None:
        """The page, what goes on, or a picture."""
        if not self._is_local():
            return
        camera = _CAMERA.fullmatch(self.path.partition("?")[0])
        if self.path == "/":
            page = PAGE.read_text(encoding="utf-8").replace("{{token}}", self.server.token)
            self._send(200, "text/html; charset=utf-8", page.encode())
        elif self.path == "/state.json":
            self._send(200, "application/json", json.dumps(self.server.state()).encode())
        elif camera and (data := self.server.picture(camera[1])) is not None:
            self._send(200, "image/jpeg", data)
        else:
            self._send(404, "text/plain", b"there is nothing here")

    def do_POST(self) -> None:
        """A word."""
        if not self._is_local():
            return
        if not hmac.compare_digest(self.headers.get(TOKEN, "").encode(), self.server.token.encode()):
            self._send(403, "text/plain", b"not from this page")
            return
        try:
            self.server.say(*self._word())
        except SettingsError as error:
            self._send(400, "text/plain", str(error).encode())
        except (ValueError, KeyError, TypeError):
            self._send(400, "text/plain", b"not a word")
        else:
            self._send(200, "application/json", b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: a page asks several times a second."""

    def _word(self) -> tuple[str, str]:
        """A word and its reason.

        Raises:
            ValueError: The request is none, or is too long.
            KeyError: It has no word.
            TypeError: It is no object.
        """
        length = int(self.headers.get("Content-Length", ""))
        if self.path != "/say" or not 0 < length <= LIMIT:
            raise ValueError(f"{self.path} with {length} bytes")
        data = json.loads(self.rfile.read(length))
        return str(data["word"]), str(dict(data).get("reason", ""))

    def _is_local(self) -> bool:
        """Whether the browser asks for this host by its own name, and no other page made it do so."""
        port = self.server.server_address[1]
        hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in hosts and (origin is None or origin.removeprefix("http://") in hosts):
            return True
        self._send(403, "text/plain", b"not from this host")
        return False

    def _send(self, code: int, kind: str, data: bytes) -> None:
        self.send_response(code)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    """Listens on the loopback interface."""

    daemon_threads = True
    state: Callable[[], dict[str, Any]]
    picture: Callable[[str], bytes | None]
    say: Callable[[str, str], None]

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.token = secrets.token_urlsafe(24)
