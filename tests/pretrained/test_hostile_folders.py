"""Folders of published models that are damaged or harmful: a named error in seconds, nothing executed."""

import json
import pickle
import shutil
import struct
import time

import jaxtyping
import pipelines
import pytest
from conftest import Lazy

import jaxflow

safetensors = Lazy("safetensors.numpy")

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.requirement("R58")]

WEIGHTS = "diffusion_pytorch_model.safetensors"
MOST_SECONDS = 20.0


class Harmful:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def changed(file, **entries):
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def a_pickle(folder):
    (folder / "unet" / WEIGHTS).unlink()
    (folder / "unet" / "pytorch_model.bin").write_bytes(pickle.dumps(Harmful()))


def a_pickle_by_another_name(folder):
    (folder / "unet" / WEIGHTS).write_bytes(pickle.dumps(Harmful()))


def a_cut_file(folder):
    file = folder / "vae" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])


def a_header_that_lies(folder):
    header = {"conv_in.weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
    text = json.dumps(header).encode()
    (folder / "unet" / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + b"0" * 64)


def a_header_that_does_not_end(folder):
    (folder / "unet" / WEIGHTS).write_bytes(struct.pack("<Q", 2**62) + b"{}")


def an_index_that_points_outside(folder):
    shutil.move(folder / "unet" / WEIGHTS, folder / "secret.safetensors")
    index = {"weight_map": {"conv_in.weight": "../secret.safetensors"}}
    (folder / "unet" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def a_link_to_nothing(folder):
    (folder / "text_encoder" / "model.safetensors").unlink()
    (folder / "text_encoder" / "model.safetensors").symlink_to("/nowhere")


def tensors_of_something_else(folder):
    shutil.copy(folder / "vae" / WEIGHTS, folder / "unet" / WEIGHTS)


CASES = {
    "a pickle": (a_pickle, "pickles are not read, as they can run code"),
    "a pickle by another name": (a_pickle_by_another_name, "is not a complete safetensors file"),
    "a cut file": (a_cut_file, "vae.*is not a complete safetensors file"),
    "a header that lies": (a_header_that_lies, "unet.*is not a complete safetensors file"),
    "a header that does not end": (a_header_that_does_not_end, "unet.*is not a complete safetensors file"),
    "an index that points outside": (an_index_that_points_outside, "names the file .*: expected one in its"),
    "a link to nothing": (a_link_to_nothing, "text_encoder.*has no weights"),
    "tensors of something else": (tensors_of_something_else, "has no tensor 'mid_block.attentions.0"),
    "10^9 blocks": (
        lambda folder: changed(folder / "unet" / "config.json", layers_per_block=10**9),
        "unet.*its network cannot be built: blocks = 1000000000",
    ),
    "10^9 blocks of text": (
        lambda folder: changed(folder / "text_encoder" / "config.json", num_hidden_layers=10**9),
        "depth = 1000000000",
    ),
    "a vocabulary of 10^12": (
        lambda folder: changed(folder / "text_encoder" / "config.json", vocab_size=10**12),
        "vocabulary = 1000000000000",
    ),
    "10^9 timesteps": (
        lambda folder: changed(folder / "scheduler" / "scheduler_config.json", num_train_timesteps=10**9),
        "num_train_timesteps = 1000000000: must be from 1 to 100000",
    ),
    "an image of 10^9": (
        lambda folder: changed(folder / "unet" / "config.json", sample_size=10**9),
        "unet.*sample_size = 1000000000",
    ),
    "another class": (
        lambda folder: changed(folder / "unet" / "config.json", mid_block_type="UNetMidBlock3D"),
        "unet.*mid_block_type = 'UNetMidBlock3D': must be 'UNetMidBlock2DCrossAttn'",
    ),
    "no object": (lambda folder: (folder / "vae" / "config.json").write_text("[]"), "holds a list: expected"),
    "deep JSON": (
        lambda folder: (folder / "model_index.json").write_text("[" * 10**6),
        "model_index.json is not JSON",
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A pipeline that is in order."""
    return pipelines.stable_diffusion(tmp_path_factory.mktemp("whole"), attention_head_dim=2)[1]


@pytest.mark.parametrize("name", CASES)
def test_it_is_named_and_nothing_is_executed(name, whole, tmp_path, monkeypatch):
    # Checks of types would ask the codec for null, and so read the text encoder, when the model is made.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    spoil, says = CASES[name]
    shutil.copytree(whole, tmp_path / "folder")
    spoil(tmp_path / "folder")
    begin = time.monotonic()
    with pytest.raises((ValueError, FileNotFoundError), match=says) as rejected:
        jaxflow.load(tmp_path / "folder")
    assert len(str(rejected.value)) < 600
    assert time.monotonic() - begin < MOST_SECONDS
