"""Adapters in files, against PEFT in diffusers' own U-Net, on random weights."""

import json
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pipelines
import pytest
from conftest import Lazy, assert_close, normal
from test_stable_diffusion import PUBLISHED

import jaxflow
from jaxflow.pretrained import adapter_files, stable_unet
from jaxflow.runs import published

torch, diffusers, peft = Lazy("torch"), Lazy("diffusers"), Lazy("peft")
safetensors = Lazy("safetensors.torch")

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.requirement("R58")]

RANK, ALPHA = 3, 6
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A pipeline with an adapter that is not zero, its folder, and the adapter's file."""
    folder = tmp_path_factory.mktemp("adapted")
    pipe, place = pipelines.stable_diffusion(folder, attention_head_dim=2)
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, init_lora_weights=False)
    pipe.unet.add_adapter(config)
    state = peft.get_peft_model_state_dict(pipe.unet)
    diffusers.StableDiffusionPipeline.save_lora_weights(
        folder, unet_lora_layers=state, unet_lora_adapter_metadata=config.to_dict()
    )
    return pipe, place, folder / "pytorch_lora_weights.safetensors"


INPUTS = normal(2, 8, 8, 4), jnp.array([17.0, 900.0]), normal(2, 5, 32, seed=1)


def of_torch(unet):
    x, t, tokens = (torch.from_numpy(np.array(part)) for part in INPUTS)
    with torch.no_grad():
        out = unet(x.permute(0, 3, 1, 2), t, tokens).sample
    return out.permute(0, 2, 3, 1).numpy()


def of_ours(place, params):
    file = place / "unet" / "config.json"
    network = stable_unet.network_of(file, json.loads(file.read_text()))
    x, t, tokens = INPUTS
    return jax.jit(network.apply)({"params": params}, x, t / 1000, tokens)


def test_an_adapter_acts_as_in_diffusers(adapted):
    """At its own scale, alpha / rank, and at twice that."""
    pipe, place, file = adapted
    plain, tuned = jaxflow.load(place), jaxflow.load(place, adapters={str(file): 1.0})
    assert_close(of_ours(place, tuned.params), of_torch(pipe.unet), 1e-4)
    double = jaxflow.load(place, adapters={str(file): 2.0}).params
    change = jax.tree.map(lambda a, b, c: (a - b) - 2 * (c - b), double, plain.params, tuned.params)
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(change)) < 1e-5


def older(name):
    """In diffusers before PEFT."""
    name = name.replace(".lora_A.", ".down.").replace(".lora_B.", ".up.")
    for part in ("to_q", "to_k", "to_v", "to_out"):
        end = ".0" if part == "to_out" else ""
        name = name.replace(f".{part}{end}.down", f".processor.{part}_lora.down")
        name = name.replace(f".{part}{end}.up", f".processor.{part}_lora.up")
    return (
        name.replace("proj.down", "proj.lora.down")
        .replace("proj.up", "proj.lora.up")
        .replace("net.2.down", "net.2.lora.down")
        .replace("net.2.up", "net.2.lora.up")
    )


def kohya(name):
    """Of the scripts of kohya."""
    base, _, factor = name.removeprefix("unet.").partition(".lora_")
    return f"lora_unet_{base.replace('.', '_')}.lora_{'down' if factor.startswith('A') else 'up'}.weight"


@pytest.mark.parametrize("scheme", [older, kohya])
def test_other_schemes_of_names_are_read(adapted, scheme, tmp_path):
    _, place, file = adapted
    tensors = {scheme(name): leaf for name, leaf in safetensors.load_file(file).items()}
    if scheme is kohya:
        names = {name.partition(".")[0] for name in tensors}
        tensors |= {f"{name}.alpha": torch.tensor(float(ALPHA)) for name in names}
    safetensors.save_file(tensors, tmp_path / "a.safetensors")
    shapes = jaxflow.load(place).params
    name_of, part = published.names_of_tensors(place)
    expected = adapter_files.read(file, shapes, name_of, part)
    found = adapter_files.read(tmp_path / "a.safetensors", shapes, name_of, part)
    scale = 1 if scheme is kohya else ALPHA / RANK  # the older files have none
    for path, (down, up) in expected.items():
        assert_close(found[path].down, down, 0)
        assert_close(scale * found[path].up, up, 1e-6)


def test_kohya_names_the_matrices_of_xl_as_diffusers_reads_them():
    """All of the published size, by the names of the original code."""
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(**PUBLISHED["XL"][0])
    bases = [name.removesuffix(".weight") for name, leaf in unet.named_parameters() if leaf.ndim == 2]
    convert = import_module("diffusers.loaders.lora_conversion_utils")
    for base in bases:
        *_, (down, _, _) = adapter_files._keys(base, "unet")
        (found,) = convert._maybe_map_sgm_blocks_to_diffusers({down: None}, unet.config)
        read = convert._convert_unet_lora_key(found.partition(".")[0]).replace("processor.to.", "to_")
        assert read == base
    assert len(bases) == 743


def test_an_adapter_of_ours_is_read_by_diffusers(adapted, tmp_path):
    _, place, file = adapted
    params = jaxflow.load(place).params
    names = published.names_of_tensors(place)
    adapter = adapter_files.read(file, params, *names)
    (tmp_path / "ours.safetensors").write_bytes(adapter_files.encoded(adapter, *names))
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(place, safety_checker=None)
    pipe.load_lora_weights(tmp_path / "ours.safetensors")
    tuned = jaxflow.load(place, adapters={str(tmp_path / "ours.safetensors"): 1.0})
    assert_close(of_ours(place, tuned.params), of_torch(pipe.unet), 1e-4)


def test_tensors_of_a_text_encoder_are_named(adapted, tmp_path):
    _, place, file = adapted
    tensors = safetensors.load_file(file) | {"text_encoder.layers.0.lora_A.weight": torch.zeros(2, 2)}
    safetensors.save_file(tensors, tmp_path / "a.safetensors")
    with pytest.warns(UserWarning, match="its 1 tensors of text encoders are not applied"):
        jaxflow.load(place, adapters={str(tmp_path / "a.safetensors"): 1.0})


def zeros(*shape):
    return torch.zeros(*shape)


BASE = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (
            lambda: {"unet.a.lora_A.weight": zeros(2, 2)},
            "is no adapter of this network: it has 'unet.a",
        ),
        (lambda: {}, "is no adapter of this network: it has no tensors"),
        (lambda: {f"{BASE}.lora_A.weight": zeros(2, 8)}, "has no tensor '.*lora_B.weight', only the other"),
        (
            lambda: {f"{BASE}.lora_A.weight": zeros(2, 8), f"{BASE}.lora_B.weight": zeros(8, 3)},
            r"have the shapes \(2, 8\) and \(8, 3\), which do not change a kernel of the shape \(8, 8\)",
        ),
        (
            lambda: {f"{BASE}.lora_A.weight": zeros(2, 8).long(), f"{BASE}.lora_B.weight": zeros(8, 2)},
            "has tensors of int64: must be one of F64",
        ),
    ],
)
def test_other_files_are_rejected(adapted, tensors, says, tmp_path):
    file = tmp_path / "a.safetensors"
    safetensors.save_file(tensors(), file)
    with pytest.raises(ValueError, match=says):
        jaxflow.load(adapted[1], adapters={str(file): 1.0})


def test_damaged_and_missing_files_are_named(adapted, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(adapted[2].read_bytes()[:100])
    with pytest.raises(ValueError, match="is not a complete safetensors file of an adapter"):
        jaxflow.load(adapted[1], adapters={str(tmp_path / "cut.safetensors"): 1.0})
    with pytest.raises(FileNotFoundError, match="does not exist"):
        jaxflow.load(adapted[1], adapters={str(tmp_path / "none.safetensors"): 1.0})
    with pytest.raises(ValueError, match="scale = nan: must be finite"):
        jaxflow.load(adapted[1], adapters={str(adapted[2]): np.nan})
