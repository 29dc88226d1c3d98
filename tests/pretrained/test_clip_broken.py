import json
import os
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from clip_folder import NAMED, POSITIONS, write
from conftest import Lazy

from jaxflow.pretrained import clip

torch, safetensors = Lazy("torch"), Lazy("safetensors.torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip")
    write(path, "CLIPTextModelWithProjection")
    return path


def edit_config(**changes):
    def edit(path):
        file = path / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return edit


def edit_weights(edit):
    def apply(path):
        tensors = safetensors.load_file(path / "model.safetensors")
        edit(tensors)
        safetensors.save_file(tensors, path / "model.safetensors")

    return apply


def remove(*names):
    return lambda path: [(path / name).unlink() for name in names]


def pickle_only(path):
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def empty_index(path):
    (path / "model.safetensors").rename(path / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"nothing": "model-00001-of-00001.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def outward_index(path):
    index = {"weight_map": {"nothing": f"../{path.name}/model.safetensors"}}
    (path / "model.safetensors").rename(path / "other.safetensors")
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


QUERY = "text_model.encoder.layers.1.self_attn.q_proj.weight"
BROKEN = {
    "no_config": (
        remove("config.json"),
        FileNotFoundError,
        "neither config.json nor text_encoder/config.json",
    ),
    "no_json": (lambda p: (p / "config.json").write_text("{"), ValueError, "config.json is not JSON"),
    "list": (lambda p: (p / "config.json").write_text("[]"), ValueError, "config.json holds a list"),
    "no_weights": (remove("model.safetensors"), FileNotFoundError, "has no weights: .* model.safetensors"),
    "pickle": (pickle_only, ValueError, "has pytorch_model.bin .* pickles are not read.* convert it"),
    "pointer": (
        lambda p: (p / "model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0"
        ),
        ValueError,
        r"model.safetensors \(5\d bytes\) is not a complete safetensors file",
    ),
    "no_key": (
        edit_weights(lambda t: t.pop(QUERY)),
        ValueError,
        f"model.safetensors has no tensor '{QUERY}'",
    ),
    "no_projection": (
        edit_weights(lambda t: t.pop("text_projection.weight")),
        ValueError,
        "has no tensor 'text_projection.weight'",
    ),
    "empty_index": (empty_index, ValueError, "00001.safetensors has no tensor '"),
    "outward_index": (outward_index, ValueError, r"names the file '\.\./.*': expected one in its folder"),
    "shape": (
        edit_weights(lambda t: t.update({QUERY: torch.zeros(32, 31)})),
        ValueError,
        rf"'{QUERY}' has the shape \(32, 31\), expected \(32, 32\) by the network",
    ),
    "quantised": (
        edit_weights(lambda t: t.update({QUERY: torch.zeros(32, 32, dtype=torch.int8)})),
        ValueError,
        f"'{QUERY}' is I8: must be one of F64, F32, F16, BF16",
    ),
    "fewer_blocks": (
        edit_config(num_hidden_layers=2),
        ValueError,
        "has the tensor 'text_model.encoder.layers.2.*', which the network lacks",
    ),
    "depth": (
        edit_config(num_hidden_layers=10**9),
        ValueError,
        "depth = 1000000000: must be less than or equal to 1024",
    ),
    "architecture": (edit_config(model_type="bert"), ValueError, "model_type = 'bert': must be clip"),
    "activation": (
        edit_config(hidden_act="silu"),
        ValueError,
        "hidden_act = 'silu': must be quick_gelu or gelu",
    ),
    "heads": (edit_config(num_attention_heads=5), ValueError, "heads = 5: must divide width = 32"),
    "end": (edit_config(eos_token_id=7), ValueError, "eos_token_id = 7: must be the tokenizer's end token"),
    "ends": (edit_config(eos_token_id=[1, 2]), ValueError, r"eos_token_id = \[1, 2\]: must be an integer"),
    "vocabulary": (edit_config(vocab_size=99), ValueError, "vocab_size = 99: must be at least"),
    "no_vocab": (remove("vocab.json"), FileNotFoundError, "neither tokenizer.json nor vocab.json"),
    "no_merges": (remove("merges.txt"), FileNotFoundError, "neither tokenizer.json nor merges.txt"),
    "bad_tokenizer": (
        lambda p: (p / "tokenizer.json").write_text("{}"),
        ValueError,
        "tokenizer.json is not a tokenizer",
    ),
    "bad_merges": (
        lambda p: (p / "merges.txt").write_text("#version: 0.2\nqq zz\n"),
        ValueError,
        "vocab.json and merges.txt are not a BPE model",
    ),
    "no_padding": (
        lambda p: (p / "special_tokens_map.json").write_text(json.dumps(NAMED | {"pad_token": "<pad>"})),
        ValueError,
        "the vocabulary has no token '<pad>'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_an_error_of_one_line(tmp_path, folder, name):
    breaking, error, message = BROKEN[name]
    path = tmp_path / "clip"
    shutil.copytree(folder, path)
    breaking(path)
    with pytest.raises(error, match=message) as raised:
        clip.load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_length": POSITIONS + 1},
            f"max_length = {POSITIONS + 1}: must be at most the model.s {POSITIONS} positions",
        ),
        ({"max_length": 1}, "max_length = 1: must be at least 2"),
        ({"skip": 4}, "skip = 4: must be from 0 to depth = 3"),
        ({"dtype": "float16"}, "dtype = 'float16': must be float32 or bfloat16"),
    ],
)
def test_options_out_of_range(folder, options, message):
    with pytest.raises(ValueError, match=message):
        clip.load(folder, **options)


def test_missing_folders(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"openai/clip' does not exist: .* nothing is downloaded"):
        clip.load(tmp_path / "openai/clip")
    with pytest.raises(FileNotFoundError, match=r"has no text_encoder_3/config\.json"):
        clip.load(folder, subfolder="text_encoder_3")


@pytest.mark.parametrize("prompts", [[], "the cat"])
def test_prompts_must_be_a_list(folder, prompts):
    with pytest.raises(ValueError, match="expected a list of at least one string"):
        clip.load(folder).encode(prompts)
