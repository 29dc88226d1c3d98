import json
import os
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_folder import END, POSITIONS, START, TEXTS, TOKENIZERS, VOCABULARY, write, write_tokenizer
from conftest import Lazy, assert_close, compiling_nothing

from jaxflow.nn.clip_text import CLIPText
from jaxflow.pretrained import clip
from jaxflow.pretrained.tensors import name_of

torch, transformers, safetensors = Lazy("torch"), Lazy("transformers"), Lazy("safetensors.torch")


def reference_ids(folder, texts, length):
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    out = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="np")
    return out["input_ids"].astype(np.int32), out["attention_mask"].astype(bool)


def reference(model, folder, texts, length=POSITIONS):
    """Tokens, pooled and projected outputs of torch, without a padding mask, as published models are used."""
    ids = torch.tensor(reference_ids(folder, texts, length)[0])
    with torch.no_grad():
        projection = getattr(model, "text_projection", None)
        out = (model if projection is None else model.text_model)(ids)
        projected = None if projection is None else projection(out.pooler_output).numpy()
    return out.last_hidden_state.numpy(), out.pooler_output.numpy(), projected


def encode_all(text, texts=TEXTS):
    with pytest.warns(UserWarning, match="is ignored"):
        return text.encode(texts)


@pytest.mark.parametrize("saved", ["vocab.json", "tokenizer.json"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_are_those_of_transformers(tmp_path, name, saved):
    write_tokenizer(tmp_path, name)
    if saved == "tokenizer.json":
        transformers.CLIPTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
        (tmp_path / "vocab.json").unlink()
    words = clip.vocabularies.read_clip(tmp_path)
    for length in (POSITIONS, 200):
        with warnings.catch_warnings(action="ignore"):
            ids, mask = words(TEXTS, length)
        expected_ids, expected_mask = reference_ids(tmp_path, TEXTS, length)
        np.testing.assert_array_equal(ids, expected_ids)
        np.testing.assert_array_equal(mask, expected_mask)


@pytest.mark.requirement("R55")
@pytest.mark.parametrize(
    ("kind", "activation"),
    [
        ("CLIPTextModel", "quick_gelu"),
        ("CLIPTextModel", "gelu"),
        ("CLIPTextModelWithProjection", "gelu"),
        ("CLIPModel", "quick_gelu"),
    ],
)
def test_hidden_states_are_those_of_transformers(tmp_path, kind, activation):
    model = write(tmp_path, kind, hidden_act=activation)
    found = encode_all(clip.load(tmp_path))
    tokens, pooled, projected = reference(model, tmp_path, TEXTS)
    assert_close(found.tokens, tokens, 1e-4)
    assert_close(found.pooled, pooled, 1e-4)
    assert (found.projected is None) == (projected is None) == (kind == "CLIPTextModel")
    if projected is not None:
        assert_close(found.projected, projected, 1e-4)
    np.testing.assert_array_equal(found.mask, reference_ids(tmp_path, TEXTS, POSITIONS)[1])


@pytest.mark.parametrize(
    ("end", "tokenizer"),
    [
        (2, "stable_diffusion_1"),
        (2, "stable_diffusion_xl_2"),
        (VOCABULARY[END], "stable_diffusion_1"),
    ],
)
def test_both_conventions_of_the_end_token(tmp_path, end, tokenizer):
    model = write(tmp_path, tokenizer=tokenizer, eos_token_id=end)
    text = clip.load(tmp_path)
    assert text.network.end_token == (None if end == 2 else end)
    found = encode_all(text)
    assert_close(found.pooled, reference(model, tmp_path, TEXTS)[1], 1e-4)
    with pytest.warns(UserWarning, match="is ignored"):
        ids, mask = text.tokenizer(TEXTS, text.max_length)
    # Not compiled as a whole, which may compute the two in separate loops.
    plain = text.network.apply({"params": text.params}, jnp.asarray(ids))
    assert_close(plain.pooled[1], plain.tokens[1, mask[1].sum() - 1], 0)


@pytest.mark.parametrize("end", [2, VOCABULARY[END]])
def test_end_token_that_is_not_the_largest_id(tmp_path, end):
    """An id above the end token's, as learned words have, distinguishes the conventions."""
    model = write(tmp_path, eos_token_id=end, vocab_size=len(VOCABULARY) + 1)
    text = clip.load(tmp_path)
    ids = np.array([[VOCABULARY[START], len(VOCABULARY), 5, *[VOCABULARY[END]] * 3]], np.int32)
    with torch.no_grad():
        out = model(torch.tensor(ids))
    found = text.network.apply({"params": text.params}, jnp.asarray(ids))
    assert_close(np.asarray(found.pooled), out.pooler_output.numpy(), 1e-4)
    assert_close(found.pooled, found.tokens[:, 1 if end == 2 else 3], 0)


def test_tokens_of_earlier_blocks(tmp_path):
    """The penultimate state of Stable Diffusion XL, and the clip_skip of Stable Diffusion 1."""
    model = write(tmp_path)
    ids = torch.tensor(reference_ids(tmp_path, TEXTS, POSITIONS)[0])
    with torch.no_grad():
        out = model(ids, output_hidden_states=True)
        states = [state.numpy() for state in out.hidden_states]
        normed = model.final_layer_norm(out.hidden_states[-3]).numpy()
    bare = encode_all(clip.load(tmp_path, skip=1, final_norm=False))
    assert_close(bare.tokens, states[-2], 1e-4)
    assert_close(bare.pooled, out.pooler_output.numpy(), 1e-4)
    assert_close(encode_all(clip.load(tmp_path, skip=2)).tokens, normed, 1e-4)
    assert_close(encode_all(clip.load(tmp_path, skip=3, final_norm=False)).tokens, states[0], 1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_are_read_as_float32(tmp_path, dtype):
    model = write(tmp_path).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path)
    text = clip.load(tmp_path)
    assert {leaf.dtype for leaf in jax.tree.leaves(text.params)} == {np.dtype("float32")}
    assert_close(encode_all(text).tokens, reference(model.float(), tmp_path, TEXTS)[0], 1e-4)


def test_sharded_weights(tmp_path):
    model = write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    shards = sorted(tmp_path.glob("model-*-of-*.safetensors"))
    assert len(shards) > 1
    assert_close(encode_all(clip.load(tmp_path)).tokens, reference(model, tmp_path, TEXTS)[0], 1e-4)
    shards[1].unlink()
    with pytest.raises(FileNotFoundError, match=f"{shards[1].name} does not exist: model.safetensors.index"):
        clip.load(tmp_path)


@pytest.mark.parametrize("kind", ["CLIPTextModel", "CLIPTextModelWithProjection"])
def test_names_with_and_without_their_prefix_and_with_position_ids(tmp_path, kind):
    """Published files prefix every name with text_model. and store the positions; new ones may not."""
    model = write(tmp_path, kind)
    file = tmp_path / "model.safetensors"
    bare = {key.removeprefix("text_model."): value for key, value in safetensors.load_file(file).items()}
    positions = torch.arange(POSITIONS)[None]
    for prefix in ("", "text_model."):
        named = {
            key if key.startswith("text_projection") else prefix + key: value for key, value in bare.items()
        }
        safetensors.save_file(named | {f"{prefix}embeddings.position_ids": positions}, file)
        found = encode_all(clip.load(tmp_path))
        assert_close(found.tokens, reference(model, tmp_path, TEXTS)[0], 1e-4)


def test_pipeline_folder(tmp_path):
    """As `diffusers` saves Stable Diffusion XL."""
    first = write(tmp_path / "text_encoder")
    second = write(
        tmp_path / "text_encoder_2", "CLIPTextModelWithProjection", hidden_size=64, hidden_act="gelu"
    )
    for i, name in (("", "stable_diffusion_1"), ("_2", "stable_diffusion_xl_2")):
        write_tokenizer(tmp_path / f"tokenizer{i}", name)
        for file in ("vocab.json", "merges.txt"):
            (tmp_path / f"text_encoder{i}" / file).unlink()
    found = encode_all(clip.load(tmp_path))
    assert_close(found.tokens, reference(first, tmp_path / "tokenizer", TEXTS)[0], 1e-4)
    found = encode_all(clip.load(tmp_path, subfolder="text_encoder_2"))
    tokens, _, projected = reference(second, tmp_path / "tokenizer_2", TEXTS)
    assert_close(found.tokens, tokens, 1e-4)
    assert_close(found.projected, projected, 1e-4)


def test_a_shorter_length_truncates_with_a_warning(tmp_path):
    model = write(tmp_path)
    text = clip.load(tmp_path, max_length=8)
    with pytest.warns(UserWarning, match="max_length = 8") as warned:
        found = text.encode(["a photo of the cat and the photo", "the cat"])
    assert [str(warning.message) for warning in warned] == [
        "prompt 'a photo of the cat and the photo' has 10 tokens, max_length = 8: 'the photo' is ignored"
    ]
    texts = ["a photo of the cat and", "the cat"]
    assert_close(found.tokens, reference(model, tmp_path, texts, 8)[0], 1e-4)
    assert found.mask.sum(axis=1).tolist() == [8, 4]


def test_a_prompt_does_not_depend_on_its_batch_and_compiles_once(tmp_path):
    write(tmp_path)
    text = clip.load(tmp_path)
    prompts = [f"{'the ' * (i % 7)}cat {i}" for i in range(37)]
    found = text.encode(prompts)
    assert found.tokens.shape == (37, POSITIONS, 32)
    with compiling_nothing():
        assert_close(text.encode(prompts), found, 0)
    for i in (0, 31, 32, 36):
        assert_close(text.encode([prompts[i]]).tokens[0], found.tokens[i], 1e-5)


def test_bfloat16_is_close_to_float32(tmp_path):
    write(tmp_path, "CLIPTextModelWithProjection")
    rounded, exact = (encode_all(clip.load(tmp_path, dtype=dtype)) for dtype in ("bfloat16", "float32"))
    for name in ("tokens", "pooled", "projected"):
        a, b = getattr(rounded, name), getattr(exact, name)
        assert a.dtype == np.float32
        assert 0 < np.abs(a - b).mean() < 0.05 * np.abs(b).mean()


PUBLISHED = {
    "openai/clip-vit-large-patch14": (
        123_060_480,
        {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "eos_token_id": 2},
    ),
    "stable-diffusion-2-1": (
        340_387_840,
        {
            "hidden_size": 1024,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "hidden_act": "gelu",
        },
    ),
    "stable-diffusion-xl, text_encoder_2": (
        694_659_840,
        {
            "hidden_size": 1280,
            "num_attention_heads": 20,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "hidden_act": "gelu",
            "projection_dim": 1280,
            "architectures": ["CLIPTextModelWithProjection"],
        },
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_at_the_published_sizes(tmp_path, name):
    """Names, shapes and count equal those of the reference, built without memory."""
    count, config = PUBLISHED[name]
    config = {"model_type": "clip_text_model", "vocab_size": 49408, "num_hidden_layers": 12} | config
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = clip.network_of(tmp_path / "config.json", ())
    kind = config.get("architectures", ["CLIPTextModel"])[0]
    with torch.device("meta"):
        model = getattr(transformers, kind)(transformers.CLIPTextConfig(**config))
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    ids = jax.ShapeDtypeStruct((1, 77), np.dtype("int32"))
    shapes = jax.eval_shape(network.init, jax.random.key(0), ids)["params"]
    names = clip._names("" if kind == "CLIPTextModel" else "text_model.")
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
        parts = tuple(part.key for part in path)
        found[name_of(parts, names)] = leaf.shape[::-1] if parts[-1] == "kernel" else leaf.shape
    assert found == expected
    assert sum(int(np.prod(shape)) for shape in found.values()) == count


def test_defaults_of_a_configuration_are_those_of_transformers():
    reference = transformers.CLIPTextConfig()
    assert {key: getattr(reference, key) for key in clip.DEFAULTS} == clip.DEFAULTS


def test_a_duplicated_configuration(tmp_path):
    """The first published CLIPModel folders have both text_config_dict and text_config."""
    config = {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": 768,
        "text_config": {"hidden_size": 64, "eos_token_id": 2, "hidden_act": "gelu", "num_hidden_layers": 3},
        "text_config_dict": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = clip.network_of(tmp_path / "config.json", ())
    text = transformers.CLIPConfig.from_pretrained(tmp_path).text_config
    assert network == CLIPText(end_token=text.eos_token_id, projection=768)
    assert (text.hidden_size, text.num_hidden_layers, text.hidden_act) == (768, 12, "quick_gelu")
