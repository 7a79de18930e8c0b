"""Finding strategies by name: each is one module of its package, and the module's name is the setting's value.

So adding a strategy is adding a file; nothing has to be registered. See ``docs/methods.md``.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Literal, Protocol, TypeAlias, cast

from torch import Tensor

from tgrpo.algo.collectors import Collection
from tgrpo.algo.samplers import Request
from tgrpo.algo.signals import Options, Signals
from tgrpo.errors import UnknownNameError

Kind: TypeAlias = Literal["baselines", "scalarisers", "samplers", "collectors"]


class Baseline(Protocol):
    """A module of :mod:`tgrpo.algo.baselines`."""

    def advantages(self, group: Signals, options: Options) -> Tensor:
        """Advantage of each decision ``(N, T)``, exactly 0 where masked."""
        ...


class Scalariser(Protocol):
    """A module of :mod:`tgrpo.algo.scalarisers`."""

    def scalarise(self, groups: list[Signals], options: Options) -> list[Signals]:
        """The groups of one update with ``trajectory`` filled in, and other rewards where the method has them."""
        ...


class Sampler(Protocol):
    """A module of :mod:`tgrpo.algo.samplers`."""

    def choose(self, request: Request) -> list[int]:
        """The initial state of each of the next ``request.count`` groups."""
        ...


class Collector(Protocol):
    """A module of :mod:`tgrpo.algo.collectors`."""

    def collect(self, size: int) -> Collection:
        """Plans the rollouts of a group of the given size."""
        ...


def names(kind: Kind) -> list[str]:
    """The strategies of one kind."""
    package = importlib.import_module(f"tgrpo.algo.{kind}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def baseline(name: str) -> Baseline:
    """Finds a baseline.

    Raises:
        UnknownNameError: There is none of this name.
    """
    return cast("Baseline", _find("baselines", name))


def scalariser(name: str) -> Scalariser:
    """Finds a scalariser.

    Raises:
        UnknownNameError: There is none of this name.
    """
    return cast("Scalariser", _find("scalarisers", name))


def sampler(name: str) -> Sampler:
    """Finds a sampler of initial states.

    Raises:
        UnknownNameError: There is none of this name.
    """
    return cast("Sampler", _find("samplers", name))


def collector(name: str) -> Collector:
    """Finds a collector of rollouts.

    Raises:
        UnknownNameError: There is none of this name.
    """
    return cast("Collector", _find("collectors", name))


def _find(kind: Kind, name: str) -> ModuleType:
    known = names(kind)
    if name not in known:
        raise UnknownNameError(kind.removesuffix("s"), name, known)
    return importlib.import_module(f"tgrpo.algo.{kind}.{name}")
