import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from conftest import assert_close
from tokenizers import models, pre_tokenizers, processors

from jaxflow.nn.clip_text import CLIPText
from jaxflow.pretrained import PretrainedText, cached
from jaxflow.pretrained.tokenizer import Tokenizer

WORDS = {"[": 0, "]": 1, "?": 2, "cat": 3, "dog": 4, "the": 5}
NETWORK = CLIPText(vocabulary=6, width=8, depth=1, heads=2, hidden=8, positions=5, end_token=1, projection=4)
PROMPTS = ["the cat", "the dog", "cat", "", "dog cat dog"]


def encoder(network=NETWORK, seed=0):
    backend = tokenizers.Tokenizer(models.WordLevel(WORDS, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single=["[", "$A", "]"], special_tokens=[("[", 0), ("]", 1)]
    )
    ids = jnp.zeros((1, 5), jnp.int32)
    params = network.init(jax.random.key(seed), ids)["params"]
    return PretrainedText(network, params, Tokenizer(backend, 1, 1), 5)


class Counting:
    """Counts the calls of `PretrainedText.encode`."""

    def __init__(self, monkeypatch):
        self.prompts = []
        encode = PretrainedText.encode

        def counted(text, prompts):
            self.prompts += prompts
            return encode(text, prompts)

        monkeypatch.setattr(PretrainedText, "encode", counted)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 0), ("float16", 1e-3)])
def test_cached_arrays_equal_those_of_encode_and_are_computed_once(tmp_path, monkeypatch, dtype, bound):
    monkeypatch.setattr("jaxflow.pretrained.embeddings.BLOCK", 2)
    text, counting = encoder(), Counting(monkeypatch)
    written = cached(text, PROMPTS, tmp_path / "new", dtype=dtype)
    assert counting.prompts == PROMPTS
    read = cached(text, PROMPTS, tmp_path / "new", dtype=dtype)
    assert counting.prompts == PROMPTS
    expected = text.encode(PROMPTS)
    for found in (written, read):
        for name in ("tokens", "pooled", "projected"):
            array = getattr(found, name)
            assert isinstance(array, np.memmap)
            assert array.dtype == dtype
            assert_close(array.astype(np.float32), getattr(expected, name), max(bound, 1e-6))
        np.testing.assert_array_equal(found.mask, expected.mask)


CHANGES = {
    "weights": lambda text: dataclasses.replace(
        text,
        params=text.params
        | {"position_embedding": text.params["position_embedding"].at[3, 5].add(np.float32(1e-3))},
    ),
    "network": lambda text: dataclasses.replace(text, network=NETWORK.clone(final_norm=False)),
    "length": lambda text: dataclasses.replace(text, max_length=4),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.filterwarnings("ignore:prompt")
def test_another_encoder_does_not_hit_the_cache(tmp_path, change):
    text = encoder()
    other = CHANGES[change](text)
    before = cached(text, PROMPTS, tmp_path, dtype="float32")
    after = cached(other, PROMPTS, tmp_path, dtype="float32")
    assert after.tokens.shape != before.tokens.shape or np.abs(after.tokens - before.tokens).max() > 1e-6
    assert_close(np.asarray(after.tokens), other.encode(PROMPTS).tokens, 1e-6)


@pytest.mark.parametrize("prompts", [PROMPTS[::-1], PROMPTS[:4], ["the", "cat", *PROMPTS[1:]]])
def test_other_captions_do_not_hit_the_cache(tmp_path, prompts):
    text = encoder()
    cached(text, PROMPTS, tmp_path, dtype="float32")
    found = cached(text, prompts, tmp_path, dtype="float32")
    assert_close(np.asarray(found.tokens), text.encode(prompts).tokens, 1e-6)


def test_an_interrupted_call_leaves_nothing(tmp_path, monkeypatch):
    text = encoder()
    monkeypatch.setattr("jaxflow.pretrained.embeddings.BLOCK", 2)
    encode = PretrainedText.encode

    def interrupted(text, prompts):
        if prompts == PROMPTS[2:4]:
            raise KeyboardInterrupt
        return encode(text, prompts)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainedText, "encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cached(text, PROMPTS, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert cached(text, PROMPTS, tmp_path).tokens.shape == (5, 5, 8)


def test_two_processes_at_once(tmp_path, monkeypatch):
    """The other process finishes while this one computes."""
    text = encoder()
    encode = PretrainedText.encode

    def overtaken(_, prompts):
        monkeypatch.setattr(PretrainedText, "encode", encode)
        cached(text, prompts, tmp_path, dtype="float32")
        return encode(text, prompts)

    monkeypatch.setattr(PretrainedText, "encode", overtaken)
    found = cached(text, PROMPTS, tmp_path, dtype="float32")
    assert_close(np.asarray(found.tokens), encode(text, PROMPTS).tokens, 1e-6)
    assert len(list(tmp_path.iterdir())) == 1


def test_numbers_beyond_float16_are_rejected(tmp_path):
    text = encoder()
    scale = {"scale": np.full(8, 1e6, np.float32), "bias": np.zeros(8, np.float32)}
    large = dataclasses.replace(text, params=text.params | {"final_norm": scale})
    with pytest.raises(ValueError, match="dtype = 'float16': tokens has values that are not finite"):
        cached(large, PROMPTS, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert float(np.abs(cached(large, PROMPTS, tmp_path, dtype="float32").tokens).max()) > 65504


@pytest.mark.parametrize(
    ("prompts", "dtype", "message"),
    [
        (PROMPTS, "float64", "dtype = 'float64': must be float16 or float32"),
        ([], "float16", "a list of at least one string"),
        ("the cat", "float16", "a list of at least one string"),
    ],
)
def test_arguments_out_of_range(tmp_path, prompts, dtype, message):
    with pytest.raises(ValueError, match=message):
        cached(encoder(), prompts, tmp_path, dtype=dtype)
