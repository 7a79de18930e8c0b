"""Prompts of OpenVLA as token ids, and the ids that stand for actions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from tgrpo.errors import CheckpointError, PolicyError
from tgrpo.policies import bins
from tgrpo.policies.prompt import PROMPT
from tgrpo.policies.vla.config import PAD_ID
from tgrpo.types import FloatArray

Prompts: TypeAlias = "Tensor | Sequence[Sequence[int]]"
"""Token ids: one sequence for each row, or ``(B, P)`` padded at the right end."""

Numbers = TypeVar("Numbers", NDArray[np.int64], Tensor)

ACTION_IDS = range(31744, 32000)
"""The 256 least used ids of Llama 2's vocabulary; the highest one is bin 0."""
BOS_ID, STOP_ID, SPACE_ID = 1, 2, 29871
"""``<s>``, ``</s>``, and the lone space that follows "Out:" wherever OpenVLA was trained."""

_KNOWN_INSTRUCTION = "do something"
PROMPT_STEP = 16
"""Prompts are padded to a multiple of this many tokens before a decision; those of LIBERO have 19 to 34."""
KNOWN_IDS = (1, 512, 29901, 1724, 3158, 881, 278, 19964, 2125, 304, 437, 1554, 29973, 13, 3744, 29901)
"""The prompt of :data:`_KNOWN_INSTRUCTION` in Llama 2's vocabulary."""

CHECKED = (KNOWN_IDS, KNOWN_IDS[:5] + KNOWN_IDS[9:])
"""Prompts of different lengths, for checks."""


class PromptEncoder:
    """Instructions to token ids, with the ``tokenizer.json`` of a checkpoint."""

    def __init__(self, path: Path) -> None:
        """Reads the tokenizer and checks it with a known answer.

        Raises:
            CheckpointError: The file is damaged, or is not the tokenizer of Llama 2.
        """
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises nothing narrower
            raise CheckpointError(f"{path}: damaged: {error}") from error
        found = self(_KNOWN_INSTRUCTION)
        if found != [*KNOWN_IDS, SPACE_ID]:
            raise CheckpointError(
                f"{path}: not the tokenizer of Llama 2: the prompt of {_KNOWN_INSTRUCTION!r} is {found}, "
                f"it should be {[*KNOWN_IDS, SPACE_ID]}. Take tokenizer.json from the official checkpoint."
            )

    def __call__(self, instruction: str) -> list[int]:
        """Token ids of the prompt: ``<s>`` first, the lone space last."""
        # The official evaluation only lowers the case, so a full stop stays; LIBERO's instructions have none.
        text = PROMPT.format(instruction=instruction.lower())
        return [*self._tokenizer.encode(text).ids, SPACE_ID]


def padded(prompts: Prompts, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Token ids ``(B, P)`` and the mask of what is not padding ``(B, P)``, every row with its lone space at the end.

    Args:
        prompts: With or without the lone space.
        seen: Mask of a padded tensor; by default padding is what holds the padding id.

    Raises:
        PolicyError: A row is empty or does not begin with ``<s>``, or padding is not at its right end.
    """
    rows = [
        _row(ids, None if seen is None or not isinstance(prompts, Tensor) else seen[place].tolist())
        for place, ids in enumerate(prompts.tolist() if isinstance(prompts, Tensor) else prompts)
    ]
    longest = max(map(len, rows), default=0)
    ids = torch.tensor([[*row, *[PAD_ID] * (longest - len(row))] for row in rows], dtype=torch.long)
    return ids, torch.tensor([[place < len(row) for place in range(longest)] for row in rows])


def widened(ids: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Prompts ``(B, P)`` and their mask with more padding, so that there are few lengths."""
    more = -ids.shape[1] % PROMPT_STEP
    return functional.pad(ids, (0, more), value=PAD_ID), functional.pad(seen, (0, more), value=False)


def _row(ids: Sequence[int], seen: Sequence[bool] | None) -> list[int]:
    mask = [token != PAD_ID for token in ids] if seen is None else [bool(value) for value in seen]
    length = sum(mask)
    if not all(mask[:length]):
        raise PolicyError(f"prompt {list(ids)}: padding must be at the right end.")
    row = list(ids[:length])
    if not row or row[0] != BOS_ID:
        raise PolicyError(f"prompt {row} must begin with <s> ({BOS_ID}); take it from encode().")
    return row if row[-1] == SPACE_ID else [*row, SPACE_ID]


def ids_of(chosen: Numbers) -> Numbers:
    """Token ids of bins."""
    return ACTION_IDS.stop - 1 - chosen


def bins_of(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bins of token ids.

    Raises:
        PolicyError: An id does not stand for an action.
    """
    if ids.size and not (ids.min() >= ACTION_IDS.start and ids.max() < ACTION_IDS.stop):
        odd = ids[(ids < ACTION_IDS.start) | (ids >= ACTION_IDS.stop)]
        raise PolicyError(f"{odd.tolist()} are no action ids; those are {ACTION_IDS.start} to {ACTION_IDS.stop - 1}.")
    return ACTION_IDS.stop - 1 - ids


def values_of(chosen: NDArray[np.int64]) -> FloatArray:
    """Values in ``[-1, 1]`` of bins, in double precision as the official code has them."""
    return bins.centres()[chosen]
