"""How a Ray cluster is started and joined: with a token, and on the loopback interface unless another is asked for.

Ray runs whatever code it is sent. So the token is required here, in a file that only its owner can read. Ray listens
on the loopback interface alone if its address is exactly 127.0.0.1, and on all interfaces otherwise; by itself it
replaces 127.0.0.1 by the address of a network card, which a variable of its own turns off.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import tyro

from tgrpo.errors import MissingDependencyError, SettingsError, WorkerError
from tgrpo.settings import Strict, validated

LOOPBACK = "127.0.0.1"


class ClusterSettings(Strict, frozen=True):
    """The Ray cluster that plays; without an address, one that is started on this machine for the run."""

    address: Annotated[str, msgspec.Meta(pattern=r"^([^:\s]+:\d+)?$")] = ""
    """Of its first machine, as `tgrpo cluster` says it: HOST:PORT."""
    host: str = LOOPBACK
    """Address of this machine in the cluster; it is part of the cluster, too."""
    token: Path = Path("~/.ray/auth_token")
    """File with the token of the cluster, the same on all machines; only its owner may read it."""
    workers: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Rollout processes of each machine; 0 takes one for each of its cores."""
    silence: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """A machine that gives no sign of life for this long is given up [s]."""


class ClusterCommand(Strict, frozen=True):
    """Starts Ray on this machine, or adds this machine to a cluster, until Ctrl-C."""

    join: Annotated[str, msgspec.Meta(pattern=r"^([^:\s]+:\d+)?$")] = ""
    """HOST:PORT of the first machine; this is the first one if not given."""
    host: str = LOOPBACK
    """Address of this machine that the others reach; anything but 127.0.0.1 listens on all interfaces."""
    port: Annotated[int, msgspec.Meta(ge=1024, le=65535)] = 6379
    """Of the first machine."""
    token: Path = Path("~/.ray/auth_token")
    """File with the token; the first machine makes it, copy it to the others."""
    cores: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Cores that simulate; 0 takes all."""


def main(argv: list[str]) -> int:
    """``tgrpo cluster``: becomes ``ray start``."""
    settings = validated(tyro.cli(ClusterCommand, prog="tgrpo cluster", args=argv))
    command, environment = start_command(settings)
    os.execve(command[0], command, {**os.environ, **environment})


def start_command(settings: ClusterCommand) -> tuple[list[str], dict[str, str]]:
    """The command that starts Ray, and variables that it needs; makes the token if this is the first machine.

    Raises:
        SettingsError: The host is no address, the token is missing or others can read it.
        MissingDependencyError: Ray is not installed.
    """
    ray = shutil.which("ray", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if ray is None:
        raise MissingDependencyError("Ray is not installed. In the checkout: pip install '.[ray]'")
    if not settings.join:
        make_token(settings.token.expanduser())
    command = [ray, "start", "--block", f"--node-ip-address={settings.host}", "--disable-usage-stats"]
    if settings.join:
        command.append(f"--address={settings.join}")
    else:
        command += ["--head", f"--port={settings.port}", "--include-dashboard=false"]
    if settings.cores:
        command.append(f"--num-cpus={settings.cores}")
    return command, environment(settings.host, settings.token)


def environment(host: str, token: Path) -> dict[str, str]:
    """Variables that make Ray ask for a token and stay where it was told to.

    Raises:
        SettingsError: The host is no address, the token is missing or others can read it.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise SettingsError(f"host {host!r} is no address. Give one of an interface, such as {LOOPBACK}.") from error
    if host != LOOPBACK and ipaddress.ip_address(host).is_loopback:
        raise SettingsError(
            f"host {host}: Ray would listen on all interfaces; only {LOOPBACK} keeps it on this machine."
        )
    path = token.expanduser()
    check_token(path)
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(path),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": str(int(host != LOOPBACK)),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # others of the machine would starve what simulates at Ray's own 15
    }


def make_token(path: Path) -> None:
    """Writes a new token that only its owner can read, unless there is one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))


def check_token(path: Path) -> None:
    """Refuses a token that is no secret.

    Raises:
        SettingsError: It is missing, short, or others can read or change it.
    """
    if not path.is_file():
        raise SettingsError(f"{path}: no such token. Copy it from the first machine of the cluster, chmod 600.")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise SettingsError(f"{path} has the mode {mode:04o}: others can read or change it. Run: chmod 600 {path}")
    if len(path.read_text(encoding="utf-8").strip()) < 32:
        raise SettingsError(f"{path}: a token has at least 32 characters. Delete it, and 'tgrpo cluster' makes one.")


def join(settings: ClusterSettings) -> Any:
    """Joins a cluster, or starts one on this machine; returns the module of Ray.

    Raises:
        SettingsError: The token is not safe, or the address is this machine's alone and the host is not.
        MissingDependencyError: Ray is not installed.
        WorkerError: The cluster does not answer, or refuses the token.
    """
    if not settings.address:
        make_token(settings.token.expanduser())
    wanted = environment(settings.host, settings.token)
    if "ray" in sys.modules and wanted.items() - os.environ.items():
        raise WorkerError("Ray was imported before it was told of its token. Import it only through this module.")
    os.environ.update(wanted)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingDependencyError("Ray is not installed. In the checkout: pip install '.[ray]'") from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if settings.address:
            ray.init(address=settings.address, _node_ip_address=settings.host, **quiet)
        else:
            cores = settings.workers or len(os.sched_getaffinity(0))
            ray.init(address="local", _node_ip_address=settings.host, include_dashboard=False, num_cpus=cores, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = settings.address or "this machine"
        raise WorkerError(
            f"no Ray cluster at {where} ({error}). Start one with 'tgrpo cluster', and check that --cluster.token "
            "is the cluster's and --cluster.host this machine's address in it."
        ) from error
    return ray
