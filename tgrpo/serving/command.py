"""`tgrpo serve`: everything of the server, put together."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import tyro
from rich.console import Console

from tgrpo.errors import MissingDependencyError, SettingsError
from tgrpo.policies import shipped
from tgrpo.serving.control import Control, default_path
from tgrpo.serving.core import Core
from tgrpo.serving.http import Http, Response
from tgrpo.serving.model import load
from tgrpo.serving.openvla import OpenVlaGateway
from tgrpo.serving.server import Server, ServerKeys, check_host
from tgrpo.serving.stats import prometheus
from tgrpo.settings import Strict, validated

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class ServeSettings(Strict, frozen=True):
    """Serves a policy to robots and simulators."""

    policy: Annotated[str, tyro.conf.Positional] = "tiny-libero"
    """Checkpoint: a folder, or the name of one that ships with the package."""
    host: str = "127.0.0.1"
    """Address to listen on; anything but this machine itself needs --keys and --clients."""
    port: Port = 5757
    """Port for `tgrpo.client.PolicyClient`."""
    keys: Path | None = None
    """The server's secret key, made by `tgrpo keys server`."""
    clients: Path | None = None
    """Folder with the public keys of the clients that are admitted."""
    max_batch: Count = 32
    """Requests that are computed together at most."""
    window_ms: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 2.0
    """Longest time that a request waits for others [ms]."""
    quota: Count = 2
    """Requests of one client that may wait or be computed at a time."""
    openpi_port: Port | None = None
    """Port for clients of openpi (websocket), on this machine only."""
    openvla_port: Port | None = None
    """Port for clients of OpenVLA (HTTP POST /act), on this machine only."""
    metrics_port: Port | None = None
    """Port for Prometheus (HTTP GET /metrics), on this machine only."""
    gateway_deadline_ms: Annotated[float, msgspec.Meta(gt=0, le=600_000)] = 2000.0
    """Time that a request through a gateway may take [ms]."""
    control: Path | None = None
    """Socket for `tgrpo swap`; by default one named by the port, in a private folder."""


def main(argv: list[str]) -> int:
    """``tgrpo serve``: serves until it is interrupted."""
    settings = validated(tyro.cli(ServeSettings, prog="tgrpo serve", args=argv))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    console = Console(highlight=False, soft_wrap=True)
    with running(settings) as lines:
        for line in lines:
            console.print(line, markup=False)
        stopped.wait()
    return 0


@contextlib.contextmanager
def running(settings: ServeSettings) -> Iterator[list[str]]:
    """A server with all that the settings ask for, while this lasts.

    Yields:
        What it offers, one line each.

    Raises:
        SettingsError: Something is not safe, or a port is taken.
        CheckpointError: The policy cannot be loaded.
    """
    keys = _server_keys(settings)
    check_host(settings.host, encrypted=keys is not None)
    model = load(shipped(settings.policy), settings.max_batch)
    with contextlib.ExitStack() as stack:
        core = Core(model, max_batch=settings.max_batch, window=settings.window_ms / 1000.0, quota=settings.quota)
        stack.callback(core.close)
        server = Server(core, host=settings.host, port=settings.port, quota=settings.quota, keys=keys)
        stack.callback(server.close)
        stack.callback(core.close)  # first, so that what waits is refused while the socket still can say so
        control = settings.control or default_path(settings.port)
        stack.callback(Control(core, control).close)
        encrypted = "with keys" if keys else "this machine only, no keys"
        lines = [f"serving {model.version} at {server.address} ({encrypted})", f"control socket: {control}"]
        yield lines + _extras(settings, core, stack)


def _extras(settings: ServeSettings, core: Core, stack: contextlib.ExitStack) -> list[str]:
    lines = []
    deadline_ms = settings.gateway_deadline_ms
    if settings.openpi_port is not None:
        address = _openpi(core, deadline_ms, settings.openpi_port, stack)
        lines.append(f"for clients of openpi: {address}")
    if settings.openvla_port is not None:
        routes = {"POST /act": OpenVlaGateway(core, deadline_ms).act, "GET /healthz": lambda _: Response(b'"ok"')}
        http = Http(routes, port=settings.openvla_port)
        stack.callback(http.close)
        lines.append(f"for clients of OpenVLA: {http.address}/act")
    if settings.metrics_port is not None:
        http = Http({"GET /metrics": lambda _: _metrics(core)}, port=settings.metrics_port)
        stack.callback(http.close)
        lines.append(f"for Prometheus: {http.address}/metrics")
    return lines


def _openpi(core: Core, deadline_ms: float, port: int, stack: contextlib.ExitStack) -> str:
    try:
        from tgrpo.serving.openpi import OpenPiGateway
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"--openpi-port needs the package {error.name!r}: in the checkout, pip install '.[serve]'"
        ) from error
    found = OpenPiGateway(core, deadline_ms, port=port)
    stack.callback(found.close)
    return found.address


def _metrics(core: Core) -> Response:
    values = {**core.counters.values(), "waiting": float(core.waiting), "busy_ms": core.busy_ms}
    return Response(prometheus(values, core.model.version).encode(), kind="text/plain; version=0.0.4")


def _server_keys(settings: ServeSettings) -> ServerKeys | None:
    if settings.keys is None and settings.clients is None:
        return None
    if settings.keys is None or settings.clients is None:
        raise SettingsError("--keys and --clients belong together: the server's key, and the folder of its clients'.")
    return ServerKeys(settings.keys, settings.clients)
