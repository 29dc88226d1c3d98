import json
import os
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"

import jax
import numpy as np
import pytest
import t5_folder
from conftest import Lazy, assert_close

from jaxflow.nn.t5 import relative_buckets
from jaxflow.pretrained import t5
from jaxflow.pretrained.tensors import name_of

torch, transformers, safetensors = Lazy("torch"), Lazy("transformers"), Lazy("safetensors.torch")
modeling_t5 = Lazy("transformers.models.t5.modeling_t5")

LENGTH = 28
TEXTS = [
    "",
    "a photo of the cat",
    "The  cats, of\nwhich é 42 are 日本",
    "the cat " * 5,
    "xyz!",
    "the </s> cat",
]


def reference(model, folder, texts, length=LENGTH):
    tokenizer = transformers.T5Tokenizer.from_pretrained(folder)
    inputs = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    with torch.no_grad():
        out = model.get_encoder()(**inputs)
    return inputs, out.last_hidden_state.numpy()


@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
@pytest.mark.parametrize("kind", ["T5EncoderModel", "T5ForConditionalGeneration"])
def test_ids_and_hidden_states_are_those_of_transformers(tmp_path, kind, feed_forward):
    model = t5_folder.write(tmp_path, kind, feed_forward_proj=feed_forward)
    text = t5.load(tmp_path, LENGTH)
    found = text.encode(TEXTS)
    inputs, tokens = reference(model, tmp_path, TEXTS)
    np.testing.assert_array_equal(text.tokenizer(TEXTS, LENGTH)[0], inputs["input_ids"].numpy())
    np.testing.assert_array_equal(found.mask, inputs["attention_mask"].numpy().astype(bool))
    assert_close(found.tokens, tokens, 1e-4)
    assert found.pooled is None
    assert found.projected is None


@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 16), (64, 512)])
def test_buckets_of_distances(buckets, distance):
    n = 700
    offset = torch.arange(n)[None] - torch.arange(n)[:, None]
    expected = modeling_t5.T5Attention._relative_position_bucket(offset, True, buckets, distance)
    np.testing.assert_array_equal(relative_buckets(n, buckets, distance), expected.numpy())


def test_padding_has_no_influence(tmp_path):
    t5_folder.write(tmp_path)
    short, long = (t5.load(tmp_path, length).encode(["the cat"]) for length in (6, LENGTH))
    count = int(short.mask.sum())
    assert count < 6
    assert_close(long.tokens[:, :count], short.tokens[:, :count], 1e-5)


def test_truncation_warns(tmp_path):
    model = t5_folder.write(tmp_path)
    text = t5.load(tmp_path, 4)
    with pytest.warns(UserWarning, match="max_length = 4") as warned:
        found = text.encode(["the cat of a photo"])
    assert [str(warning.message) for warning in warned] == [
        "prompt 'the cat of a photo' has 6 tokens, max_length = 4: 'a photo' is ignored"
    ]
    assert_close(found.tokens, reference(model, tmp_path, ["the cat of a photo"], 4)[1], 1e-4)


def test_pipeline_folder_in_half_precision_and_shards(tmp_path):
    model = t5_folder.write(tmp_path / "text_encoder_3", feed_forward_proj="gated-gelu").half()
    (tmp_path / "text_encoder_3" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "text_encoder_3", max_shard_size="20KB", variant="fp16")
    assert (tmp_path / "text_encoder_3" / "model.safetensors.index.fp16.json").is_file()
    t5_folder.write_tokenizer(tmp_path / "tokenizer_3")
    text = t5.load(tmp_path, LENGTH, subfolder="text_encoder_3")
    assert {leaf.dtype for leaf in jax.tree.leaves(text.params)} == {np.dtype("float32")}
    expected = reference(model.float(), tmp_path / "tokenizer_3", TEXTS)[1]
    assert_close(text.encode(TEXTS).tokens, expected, 1e-4)


def test_embedding_under_its_alternative_name(tmp_path):
    model = t5_folder.write(tmp_path)
    tensors = safetensors.load_file(tmp_path / "model.safetensors")
    tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    safetensors.save_file(tensors, tmp_path / "model.safetensors")
    expected = reference(model, tmp_path, TEXTS)[1]
    assert_close(t5.load(tmp_path, LENGTH).encode(TEXTS).tokens, expected, 1e-4)


def test_bfloat16_is_close_to_float32(tmp_path):
    t5_folder.write(tmp_path, feed_forward_proj="gated-gelu")
    dtypes = ("bfloat16", "float32")
    rounded, exact = (t5.load(tmp_path, LENGTH, dtype=dtype).encode(TEXTS).tokens for dtype in dtypes)
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).mean() < 0.1 * np.abs(exact).mean()


PUBLISHED = {
    "t5-small": {},
    "t5-v1_1-xxl": {
        "d_model": 4096,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "feed_forward_proj": "gated-gelu",
    },
}
COUNTS = {"t5-small": 35_330_816, "t5-v1_1-xxl": 4_762_310_656}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_at_the_published_sizes(tmp_path, name):
    """Names, shapes and count equal those of the reference, built without memory."""
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name] | {"model_type": "t5"}))
    network = t5.network_of(tmp_path / "config.json")
    with torch.device("meta"):
        model = transformers.T5EncoderModel(transformers.T5Config(**PUBLISHED[name]))
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    del expected["encoder.embed_tokens.weight"]
    inputs = (jax.ShapeDtypeStruct((1, 8), np.dtype(kind)) for kind in ("int32", "bool"))
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
        parts = tuple(part.key for part in path)
        key = name_of(parts, t5._names(network, ["shared.weight"]))
        found[key] = leaf.shape[::-1] if parts[-1] == "kernel" else leaf.shape
    assert found == expected
    assert sum(int(np.prod(shape)) for shape in found.values()) == COUNTS[name]


def test_defaults_of_a_configuration_are_those_of_transformers():
    reference = transformers.T5Config()
    assert {key: getattr(reference, key) for key in t5.DEFAULTS} == t5.DEFAULTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("t5")
    t5_folder.write(path)
    return path


def edit_config(**changes):
    def edit(path):
        file = path / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return edit


def sentencepiece_only(path):
    (path / "tokenizer.json").rename(path / "spiece.model")


def remove_bias(path):
    tensors = safetensors.load_file(path / "model.safetensors")
    del tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    safetensors.save_file(tensors, path / "model.safetensors")


BROKEN = {
    "sentencepiece": (
        sentencepiece_only,
        FileNotFoundError,
        r"has spiece.model, no tokenizer.json: .* AutoTokenizer.from_pretrained\(",
    ),
    "no_tokenizer": (
        lambda p: (p / "tokenizer.json").unlink(),
        FileNotFoundError,
        "tokenizer.json does not exist",
    ),
    "no_bias": (remove_bias, ValueError, "has no tensor '.*relative_attention_bias.weight'"),
    "depth": (
        edit_config(num_layers=10**9),
        ValueError,
        "depth = 1000000000: must be less than or equal",
    ),
    "architecture": (edit_config(model_type="umt5"), ValueError, "model_type = 'umt5': must be t5"),
    "feed_forward": (
        edit_config(feed_forward_proj="gated-silu"),
        ValueError,
        "feed_forward_proj = 'gated-silu': must be relu or gated-gelu",
    ),
    "fewer_blocks": (
        edit_config(num_layers=2),
        ValueError,
        "has the tensor 'encoder.block.2.*the network lacks",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_an_error_of_one_line(tmp_path, folder, name):
    breaking, error, message = BROKEN[name]
    path = tmp_path / "t5"
    shutil.copytree(folder, path)
    breaking(path)
    with pytest.raises(error, match=message) as raised:
        t5.load(path, LENGTH)
    assert "\n" not in str(raised.value)
