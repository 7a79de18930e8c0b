"""Guards the generic name ``sim``: another package of that name must not be taken for ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tgrpo.errors import MissingDependencyError


def sim_origin() -> Path | None:
    """Where Python would import ``sim`` from, or nothing if there is no such package."""
    spec = importlib.util.find_spec("sim")
    if spec is None:
        return None
    if spec.origin is not None:
        return Path(spec.origin)
    return Path(next(iter(spec.submodule_search_locations or ["."])))


def is_ours(origin: Path) -> bool:
    """Whether a file is our ``sim/__init__.py``, which stands beside this package."""
    return origin.resolve() == Path(__file__).resolve().parent.parent / "sim" / "__init__.py"


def check_sim_package() -> None:
    """Refuses a foreign or missing ``sim`` package.

    Raises:
        MissingDependencyError: ``import sim`` would load something else; the message names it.
    """
    origin = sim_origin()
    if origin is None:
        raise MissingDependencyError(
            "the package 'sim' of this project is not installed. Install the project: make setup"
        )
    if not is_ours(origin):
        raise MissingDependencyError(
            f"'import sim' finds {origin}, which is not part of this project. "
            "Remove it from PYTHONPATH or rename it; robot nodes are not affected."
        )
