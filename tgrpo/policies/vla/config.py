"""What a folder of OpenVLA says about itself in ``config.json`` and ``dataset_statistics.json``.

Only what this version implements is accepted: a value that nobody looked at would change the answers silently.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from transformers.models.llama.configuration_llama import LlamaConfig

from tgrpo.errors import CheckpointError, SettingsError, UnknownNameError
from tgrpo.policies.vla.statistics import Statistics
from tgrpo.settings import Strict

PAD_ID = 32000
"""Token that fills shorter prompts; the first one behind the text vocabulary."""

KNOWN: dict[str, Any] = {
    "model_type": "openvla",
    "arch_specifier": "no-align+fused-gelu-mlp",
    "vision_backbone_id": "dinosiglip-vit-so-224px",
    "llm_backbone_id": "llama2-7b-pure",
    "hf_llm_id": "meta-llama/Llama-2-7b-hf",
    "use_fused_vision_backbone": True,
    "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
    "timm_override_act_layers": [None, None],
    "image_sizes": [224, 224],
    "image_resize_strategy": "resize-naive",
    "n_action_bins": 256,
    "pad_to_multiple_of": 64,
    "pad_token_id": PAD_ID,
}
"""The only values that this version knows; the language model's sizes may differ."""

_IRRELEVANT = {"architectures", "auto_map", "dtype", "torch_dtype", "transformers_version", "llm_max_length"}
_IRRELEVANT |= {"norm_stats", "text_config", "_name_or_path", "name_or_path", "return_dict"}
_TEXT_IRRELEVANT = {"model_type", "torch_dtype", "dtype", "architectures", "transformers_version", "_name_or_path"}
_TEXT_IRRELEVANT |= {"use_cache", "bos_token_id", "eos_token_id", "initializer_range", "pretraining_tp", "return_dict"}


class LlamaSizes(Strict, frozen=True):
    """Sizes of the language model.

    ``text_config`` holds only what differs from the defaults of transformers 4.40, which wrote it; they are
    repeated here, because another version's defaults may change. Note the epsilon: Llama 2's own is 1e-5.
    """

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    pad_token_id: int | None = None

    def llama_config(self) -> LlamaConfig:
        """The same for transformers."""
        config = LlamaConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads or self.num_attention_heads,
            max_position_embeddings=self.max_position_embeddings,
            rms_norm_eps=self.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": self.rope_theta},
            pad_token_id=self.pad_token_id,
            hidden_act="silu",
            tie_word_embeddings=False,
        )
        config._attn_implementation = "sdpa"
        return config


_TEXT_KNOWN: dict[str, Any] = {"hidden_act": "silu", "tie_word_embeddings": False}


def read_config(folder: Path) -> tuple[LlamaSizes, dict[str, Statistics]]:
    """Sizes of the language model, and the statistics of each data set by name.

    Raises:
        CheckpointError: A file is missing or damaged, or says something that this version does not know.
    """
    source = folder / "config.json"
    data = _read(source)
    for name, wanted in KNOWN.items():
        if data.get(name) != wanted:
            raise CheckpointError(f"{source}: {name} is {data.get(name)!r}; this version knows {wanted!r} only.")
    _refuse_unknown(source, data, {*KNOWN, *_IRRELEVANT})
    text = data.get("text_config") or {}
    if text.get("model_type", "llama") != "llama":
        raise CheckpointError(f"{source}: text_config.model_type is {text['model_type']!r}; only 'llama' is known.")
    for name, wanted in _TEXT_KNOWN.items():
        if text.get(name, wanted) != wanted:
            raise CheckpointError(f"{source}: text_config.{name} is {text[name]!r}; only {wanted!r} is known.")
    fields = set(LlamaSizes.__struct_fields__)
    _refuse_unknown(source, text, {*fields, *_TEXT_KNOWN, *_TEXT_IRRELEVANT})
    try:
        sizes = msgspec.convert({name: value for name, value in text.items() if name in fields}, LlamaSizes)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{source}: text_config: {error}.") from error
    if sizes.vocab_size != PAD_ID + KNOWN["pad_to_multiple_of"]:
        raise CheckpointError(f"{source}: text_config.vocab_size is {sizes.vocab_size}; only 32064 is known.")
    return sizes, _statistics(folder, data)


def choose_key(statistics: dict[str, Statistics], key: str | None) -> str:
    """Name of the data set whose statistics to use.

    Args:
        statistics: All that the folder has.
        key: The wanted one, also without its ``_no_noops`` ending; None if it makes no difference.

    Raises:
        UnknownNameError: There is no such data set.
        SettingsError: There are several that differ.
    """
    if key is None and statistics:
        first, *others = statistics
        if any(statistics[first] != statistics[other] for other in others):
            raise SettingsError(
                f"the checkpoint has statistics of several data sets; choose a key of {list(statistics)}."
            )
        return first
    for name in (key, f"{key}_no_noops"):
        if name in statistics:
            return str(name)
    raise UnknownNameError("data set for un-normalisation", key, sorted(statistics))


def _statistics(folder: Path, data: dict[str, Any]) -> dict[str, Statistics]:
    """Those of ``dataset_statistics.json``, which a fine-tuned folder has, in place of ``norm_stats``."""
    own = folder / "dataset_statistics.json"
    entries, source = (_read(own), own) if own.exists() else (data.get("norm_stats") or {}, folder / "config.json")
    return {name: Statistics.from_entry(entry, f"{source}: {name}") for name, entry in entries.items()}


def _refuse_unknown(source: Path, data: dict[str, Any], known: set[str]) -> None:
    odd = {name: value for name, value in data.items() if name not in known and value not in (None, False, [], {})}
    if odd:
        raise CheckpointError(
            f"{source}: nobody has checked what {odd} would change, so this folder is not loaded. "
            "Remove the entries if they change nothing."
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: missing or damaged: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is damaged: it holds a {type(data).__name__}, not an object.")
    return data
