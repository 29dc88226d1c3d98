import os
import pickle
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxflow.runs import exported

CONFIG = {"steps": 12, "rate": 0.1, "names": ["null", "\u00e9"], "network": {"class": "DiT", "deep": None}}


def params(width=2):
    special = jnp.array([0.0, -0.0, jnp.inf, jnp.nan, 1e-45])  # the last is denormal
    block = {"kernel": jnp.arange(3.0 * width).reshape(3, width), "scale": jnp.array(0.1)}
    return {"block_0": block, "bias": special, "none": jnp.zeros((0, 3)), "half": jnp.ones(2, jnp.bfloat16)}


def bits(tree):
    """Each leaf by its name: type, shape and bytes, so that nan is itself and 0 is not -0."""
    named = jax.tree.leaves_with_path(tree)
    return {str(path): (str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()) for path, leaf in named}


@pytest.fixture
def file(tmp_path):
    exported.write(tmp_path / "model.safetensors", params(), CONFIG)
    return tmp_path / "model.safetensors"


def test_reads_every_bit_of_what_was_written(file):
    read, config = exported.read(file)
    assert bits(read) == bits(params())
    assert config == CONFIG
    assert os.listdir(file.parent) == [file.name]


def test_the_same_content_is_the_same_file(file):
    before = file.read_bytes()
    for _ in range(5):
        exported.write(file, params(), CONFIG)
        assert file.read_bytes() == before


def test_a_transposed_array_is_written_as_it_is_seen(tmp_path):
    array = np.arange(6.0, dtype=np.float32).reshape(2, 3).T
    exported.write(tmp_path / "file", {"w": array}, {})
    np.testing.assert_array_equal(exported.read(tmp_path / "file")[0]["w"], array)


def test_any_flipped_bit_is_noticed(tmp_path):
    """Of the length, the names and places of tensors, the metadata, the padding and the numbers."""
    file = tmp_path / "file"
    exported.write(file, {"b": {"w": jnp.arange(3.0)}, "s": jnp.array(1)}, CONFIG)
    written = file.read_bytes()
    assert written[8 : 8 + int.from_bytes(written[:8], "little")].endswith(b"  ")
    for position in range(len(written)):  # a bit of each byte, all eight of them in turn
        damaged = bytearray(written)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=re.escape(str(file))):
            exported.read(file)


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -8, -1])
def test_a_truncated_file_is_rejected(file, kept):
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a complete safetensors file"):
        exported.read(file)


def test_appended_bytes_are_rejected(file):
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="is not a complete safetensors file"):
        exported.read(file)


def test_what_was_not_written_here_is_rejected(tmp_path):
    file = tmp_path / "file"
    with pytest.raises(FileNotFoundError, match="file"):
        exported.read(file)
    file.write_text("a text, longer than the eight bytes of a length")
    with pytest.raises(ValueError, match="is not a complete safetensors file"):
        exported.read(file)
    save_file({"w": np.zeros(2, np.float32)}, file)
    with pytest.raises(ValueError, match="has no metadata 'jaxflow'"):
        exported.read(file)
    nested = "[" * 200000, '{"config": ' * 900 + "1" + "}" * 900, f'{{"config": {"9" * 5000}}}'
    for entry in ("[]", "{", '{"config": {}}', '{"config": {}, "sha256": null}', *nested):
        save_file({"w": np.zeros(2, np.float32)}, file, {"jaxflow": entry})
        with pytest.raises(ValueError, match="is damaged"):
            exported.read(file)


class RunsCode:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_a_pickle_is_rejected_and_not_run(tmp_path):
    (tmp_path / "model.bin").write_bytes(pickle.dumps(RunsCode()))
    with pytest.raises(ValueError, match="is not a complete safetensors file"):
        exported.read(tmp_path / "model.bin")


def test_the_parameter_of_another_network_is_named(file):
    read, _ = exported.read(file)
    exported.check(file, read, jax.eval_shape(params))
    wider = jax.eval_shape(lambda: params(3))
    with pytest.raises(ValueError, match=r"block_0/kernel is float32\[3, 2\], expected float32\[3, 3\]"):
        exported.check(file, read, wider)
    with pytest.raises(ValueError, match=r"extra is missing, expected int32\[2\]"):
        exported.check(file, read, params() | {"extra": jnp.zeros(2, int)})
    with pytest.raises(ValueError, match=r"half is bfloat16\[2\], expected nothing"):
        exported.check(file, read, {name: leaf for name, leaf in params().items() if name != "half"})
    with pytest.raises(ValueError, match=r"half is bfloat16\[2\], expected float32\[2\]"):
        exported.check(file, read, params() | {"half": jnp.zeros(2)})


def test_an_interrupted_writing_leaves_the_file_before(file, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    before = file.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        exported.write(file, params(3), CONFIG)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_name_with_a_slash_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="the name 'a/b' has a slash"):
        exported.write(tmp_path / "file", {"a/b": jnp.zeros(1)}, {})
    chex.assert_equal(os.listdir(tmp_path), [])
