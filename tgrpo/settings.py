"""Strict settings: frozen structs, unknown keys refused, every range checked.

A setting's range is written as ``Annotated[float, msgspec.Meta(ge=0)]``. The struct constructor does
not enforce it, so every set of settings passes through :func:`validated` once before it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from tgrpo.errors import SettingsError


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings; repeat ``frozen=True`` on each subclass for the type checkers."""


S = TypeVar("S", bound=msgspec.Struct)


def from_builtins(data: Any, kind: type[S], *, source: str = "settings") -> S:
    """Converts plain data into settings of one kind.

    Args:
        data: Mapping of names to values, as read from YAML or JSON.
        kind: The settings struct to build.
        source: Where the data came from; it leads the error message.

    Raises:
        SettingsError: A key is unknown, a value has the wrong type or is out of range.
    """
    try:
        return msgspec.convert(data, kind, dec_hook=_special)
    except msgspec.ValidationError as error:
        fields = ", ".join(field.name for field in msgspec.structs.fields(kind))
        raise SettingsError(f"{source}: {error}. Fields of {kind.__name__}: {fields}.") from error


def to_builtins(settings: msgspec.Struct) -> Any:
    """Plain data of settings: what YAML and JSON can hold."""
    return msgspec.to_builtins(settings, enc_hook=str)


def validated(settings: S) -> S:
    """Checks the ranges of settings that were built in code or from the command line."""
    return from_builtins(to_builtins(settings), type(settings), source=type(settings).__name__)


def load_yaml(path: Path, kind: type[S]) -> S:
    """Reads settings from a YAML file.

    Raises:
        SettingsError: The file is missing, is not YAML or does not fit ``kind``.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file.") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML: {error}") from error
    return from_builtins({} if data is None else data, kind, source=str(path))


def dump_yaml(settings: msgspec.Struct, path: Path) -> None:
    """Writes settings as YAML, in the order of their fields."""
    text = yaml.safe_dump(to_builtins(settings), sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


def _special(kind: type[Any], value: Any) -> Any:
    """Builds the one type of field that plain data cannot hold."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind)
