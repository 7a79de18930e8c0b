"""The prompt, and a tokenizer of whole words for the tiny VLA."""

from __future__ import annotations

import re
from collections.abc import Sequence

PROMPT = "In: What action should the robot take to {instruction}?\nOut:"
"""OpenVLA's prompt; the instruction is lower case and has no full stop at its end."""

_WORDS = (
    "in what action should the robot take to out ? : a all and at back basket bbq between black book bottle bottom "
    "bowl box butter cabinet caddy can center cheese chocolate close compartment cookie cream desk drawer front "
    "frypan from hot inside it ketchup layer left middle microwave milk moka mug next of on open orange juice pan "
    "pick place plate porcelain pot pots pudding push put rack ramekin red right salad dressing sauce shelf soup "
    "alphabet both stack stove table tomato top tray turn off under up white wine with wooden yellow second drawers "
    "holder one another them frying into onto over left-most rear mugs bowls plates single knob side"
)
VOCABULARY: tuple[str, ...] = ("<pad>", "<bos>", "<unk>", *dict.fromkeys(_WORDS.split()))
"""Words of the tiny VLA; covers all 130 LIBERO instructions."""


def build_prompt(instruction: str) -> str:
    """The text a policy reads for an instruction."""
    return PROMPT.format(instruction=instruction.strip().lower().rstrip("."))


def words_of(text: str) -> list[str]:
    """Lower-case words and punctuation marks of a text, in order."""
    return re.findall(r"[a-z0-9-]+|[?:]", text.lower())


def encode_prompt(instruction: str, vocabulary: Sequence[str] = VOCABULARY) -> list[int]:
    """Token ids of the prompt, ``<bos>`` first; words that are not in the vocabulary become ``<unk>``."""
    index = {word: i for i, word in enumerate(vocabulary)}
    return [index["<bos>"], *(index.get(word, index["<unk>"]) for word in words_of(build_prompt(instruction)))]
