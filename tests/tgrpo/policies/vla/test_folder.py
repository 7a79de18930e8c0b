"""What a folder must hold to be loaded, and that everything else is refused by name."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tgrpo.errors import CheckpointError
from tgrpo.policies.openvla import OpenVLA
from tgrpo.policies.vla import weights
from tgrpo.policies.vla.config import LlamaSizes, read_config
from tgrpo.policies.vla.prompts import PromptEncoder

HEADS = (4, 4)
DATA = Path(__file__).resolve().parent.parent / "data"
SEVEN_B = LlamaSizes(vocab_size=32064, pad_token_id=32000)


def load(folder):
    return OpenVLA.from_pretrained(folder, HEADS, check=False)


def edit(folder, file="config.json", **changes):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_text(folder, **changes):
    edit(folder, text_config=json.loads((folder / "config.json").read_text())["text_config"] | changes)


def replace_weights(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    path.unlink()
    save_file(tensors, path)


def shapes_of_7b():
    return {name: tuple(shape) for name, shape in json.loads((DATA / "openvla_7b_keys.json").read_text()).items()}


def test_the_982_weights_of_the_7b_fit_completely():
    shapes = shapes_of_7b()
    assert len(shapes) == 982
    network = weights.empty_network(shapes, SEVEN_B, (16, 16), film=False)
    ignored = weights.unused(network)
    weights.check_names(network, shapes, ignored, "7B")
    used = set(network.state_dict())
    assert {name for name in shapes if ignored.match(name)} == shapes.keys() - used
    # What is left out: the last block and the norm of each tower, and SigLIP's pooling.
    assert {re.sub(r"(blocks\.\d+|norm|attn_pool)\..*", r"\1", name) for name in shapes.keys() - used} == {
        "vision_backbone.featurizer.blocks.23",
        "vision_backbone.featurizer.norm",
        "vision_backbone.fused_featurizer.blocks.26",
        "vision_backbone.fused_featurizer.norm",
        "vision_backbone.fused_featurizer.attn_pool",
    }
    assert all(value.is_meta for value in network.parameters())


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("language_model.model.layers.31.mlp.up_proj.weight", "1 weights are missing"),
        ("vision_backbone.featurizer.blocks.3.ls1.scale_factor", "1 weights are missing"),
        ("vision_backbone.featurizer.pos_embed", "not an OpenVLA"),
    ],
)
def test_a_missing_weight_is_named(name, match):
    shapes = shapes_of_7b()
    del shapes[name]

    def fit():
        network = weights.empty_network(shapes, SEVEN_B, (16, 16), film=False)
        weights.check_names(network, shapes, weights.unused(network), "7B")

    with pytest.raises(CheckpointError, match=match):
        fit()


def test_shards_are_read_like_one_file(changed, vla):
    tensors = load_file(changed / "model.safetensors")
    (changed / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, chosen in parts.items():
        save_file({name: tensors[name] for name in chosen}, changed / file)
    where = {name: file for file, chosen in parts.items() for name in chosen}
    index = changed / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    mine, theirs = load(changed).network.state_dict(), vla.network.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)

    index.write_text(json.dumps({"weight_map": where | {names[0]: "model-00002-of-00002.safetensors"}}))
    with pytest.raises(CheckpointError, match=names[0]):
        load(changed)
    index.write_text(json.dumps({"weight_map": where | {"more": "../model.safetensors"}}))
    with pytest.raises(CheckpointError, match="beside the index"):
        load(changed)
    index.write_text("{}")
    with pytest.raises(CheckpointError, match="damaged"):
        load(changed)
    index.write_text(json.dumps({"weight_map": where}))
    (changed / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        load(changed)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda w: w.pop("projector.fc2.bias"), r"1 weights are missing: projector.fc2.bias"),
        (lambda w: w.update({"lora_A": torch.zeros(1)}), "1 weights are unknown: lora_A"),
        (lambda w: w.update({"projector.fc2.bias": torch.zeros(3)}), r"another shape: projector.fc2.bias \(3,\)"),
    ],
)
def test_other_weights_are_refused_by_name(changed, change, match):
    replace_weights(changed, change)
    with pytest.raises(CheckpointError, match=match):
        load(changed)


def test_damaged_and_missing_files(changed):
    path = changed / "model.safetensors"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        load(changed)
    path.write_bytes(content[:100_000])
    with pytest.raises(CheckpointError, match="damaged"):
        load(changed)
    (changed / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds a list"):
        load(changed)
    (changed / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(changed)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "llava"}, "model_type is 'llava'; this version knows 'openvla'"),
        ({"llm_backbone_id": "vicuna-v15-7b"}, "vicuna"),
        ({"vision_backbone_id": "dinosiglip-vit-so-384px"}, "384px"),
        ({"use_fused_vision_backbone": False}, "use_fused"),
        ({"image_sizes": [384, 384]}, "image_sizes"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_another_architecture_is_refused_by_name(changed, changes, match):
    edit(changed, **changes)
    with pytest.raises(CheckpointError, match=match):
        read_config(changed)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        ({"model_type": "gemma"}, "gemma"),
        ({"hidden_size": "big"}, "hidden_size"),
        ({"vocab_size": 32000}, "32064"),
    ],
)
def test_another_language_model_is_refused_by_name(changed, changes, match):
    edit_text(changed, **changes)
    with pytest.raises(CheckpointError, match=match):
        read_config(changed)


def test_defaults_are_those_of_the_transformers_that_wrote_the_file(changed):
    """The 7B's text_config holds three entries; Llama 2's own epsilon, 1e-5, would be wrong."""
    edit(
        changed,
        text_config={"vocab_size": 32064, "pad_token_id": 32000, "torch_dtype": "bfloat16", "rope_scaling": None},
    )
    sizes, _ = read_config(changed)
    assert sizes == SEVEN_B
    assert (sizes.hidden_size, sizes.intermediate_size, sizes.num_hidden_layers) == (4096, 11008, 32)
    assert (sizes.num_attention_heads, sizes.rms_norm_eps, sizes.rope_theta) == (32, 1e-6, 1e4)


def test_code_of_a_checkpoint_is_never_run(changed):
    edit(changed, auto_map={"AutoModelForVision2Seq": "modeling_prismatic.OpenVLAForActionPrediction"})
    (changed / "modeling_prismatic.py").write_text("raise SystemExit('executed')")
    load(changed)


def test_statistics_of_a_fine_tuned_folder_come_first(changed):
    (changed / "dataset_statistics.json").write_text(json.dumps({"mine": {"action": {"q01": [0.0], "q99": [1.0]}}}))
    assert list(read_config(changed)[1]) == ["mine"]
    (changed / "dataset_statistics.json").unlink()
    assert set(read_config(changed)[1]) == {"libero_spatial", "libero_10_no_noops"}


def test_prompt_ids_of_the_known_instructions(official):
    """The tests' tokenizer has a few of Llama 2's words; instructions made of them get the real ids."""
    encoder = PromptEncoder(official / "tokenizer.json")
    known = json.loads((DATA / "llama2_prompt_ids.json").read_text())["ids"]
    assert encoder("do something") == [*known["do something"], 29871]
    assert encoder("Do Something") == encoder("do something")


def test_another_tokenizer_is_refused(changed):
    path = changed / "tokenizer.json"
    path.write_text(path.read_text().replace("19964", "19963"))
    with pytest.raises(CheckpointError, match="not the tokenizer of Llama 2"):
        load(changed)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        load(changed)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        load(changed).encode("do something")
