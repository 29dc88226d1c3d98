"""Stable Diffusion's autoencoders against diffusers, on random weights in each of their files' formats."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Lazy, assert_close

import jaxflow
from jaxflow import spaces
from jaxflow.nn.autoencoder_kl import AutoencoderKL
from jaxflow.pretrained import autoencoder_kl
from jaxflow.spaces import Autoencoder

torch, safetensors, diffusers = Lazy("torch"), Lazy("safetensors.torch"), Lazy("diffusers")

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.requirement("R58")]

SMALL = {
    "block_out_channels": (8, 16, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
}
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
ORIGINAL = (
    (r"(down|up)_blocks\.(\d+)\.resnets", r"\1.\2.block"),
    (r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.(\d+)\.upsamplers\.0", r"up.\1.upsample"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    ("group_norm", "norm"),
    ("to_out.0", "proj_out"),
    (r"to_(q|k|v)", r"\1"),
    ("conv_shortcut", "nin_shortcut"),
    ("conv_norm_out", "norm_out"),
)


def as_original(state, resolutions):
    """The tensors as the original code names and shapes them: its attention has 1 x 1 convolutions."""
    found = {}
    for name, leaf in state.items():
        for pattern, new in ORIGINAL:
            name = re.sub(pattern, new, name)
        name = re.sub(r"up\.(\d+)", lambda at: f"up.{resolutions - 1 - int(at[1])}", name)
        convolution = "attn_1" in name and leaf.ndim == 2
        found[name] = leaf[..., None, None].contiguous() if convolution else leaf
    return found


def reference(**options):
    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(**{**SMALL, **options}).eval()
    for leaf in model.parameters():
        torch.nn.init.normal_(leaf, std=0.3 / max(1, leaf[0].numel()) ** 0.5 if leaf.ndim > 1 else 0.3)
    return model


def parity(autoencoder, model):
    """Largest errors of what is encoded and decoded, relative to the largest number."""
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    x = torch.from_numpy(images / np.float32(127.5) - 1).permute(0, 3, 1, 2)
    with torch.no_grad():
        moments = model.quant_conv(model.encoder(x)) if model.quant_conv else model.encoder(x)
        decoded = model.decode(moments[:, :4]).sample.permute(0, 2, 3, 1)
    moments = moments.permute(0, 2, 3, 1).numpy()
    apply = jax.jit(autoencoder.network.apply, static_argnames="method")
    variables = {"params": autoencoder.params}
    found = apply(variables, jnp.asarray(images) / 127.5 - 1, method="encode")
    assert_close(found / np.abs(moments).max(), moments / np.abs(moments).max(), 1e-4)
    found = apply(variables, jnp.asarray(moments[..., :4]), method="decode")
    assert_close(found / decoded.abs().max().item(), decoded.numpy() / decoded.abs().max().item(), 1e-4)


def test_it_encodes_and_decodes_as_diffusers_from_its_folder(tmp_path):
    model = reference(scaling_factor=0.25, shift_factor=0.5)
    model.save_pretrained(tmp_path / "vae")
    (tmp_path / "model_index.json").write_text("{}")
    found = jaxflow.load_autoencoder(tmp_path)  # of a pipeline
    assert found.network == AutoencoderKL(channels=(8, 16, 16), blocks=1, groups=4)
    assert found.published == ((0.5,) * 4, (4.0,) * 4)
    parity(found, model)


def test_latents_of_flux_2_are_squares_with_the_moments_of_its_batch_norm(tmp_path):
    """Encoded, normalised and decoded as by its pipeline."""
    torch.manual_seed(0)
    model = diffusers.AutoencoderKLFlux2(**SMALL | {"latent_channels": 2}).eval()
    for leaf in model.parameters():
        torch.nn.init.normal_(leaf, std=0.3 / max(1, leaf[0].numel()) ** 0.5 if leaf.ndim > 1 else 0.3)
    model.bn.running_mean.normal_()
    model.bn.running_var.uniform_(0.1, 2.0)
    model.save_pretrained(tmp_path)
    autoencoder = jaxflow.load_autoencoder(tmp_path)
    space = spaces.Latents.as_published((16, 24, 3), autoencoder)
    assert space.event_shape == (2, 3, 8)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    x = torch.from_numpy(images / np.float32(127.5) - 1).permute(0, 3, 1, 2)
    pipe = diffusers.Flux2Pipeline
    with torch.no_grad():
        squares = pipe._patchify_latents(model.encode(x).latent_dist.mode())
        mean, variance = (part.view(1, -1, 1, 1) for part in (model.bn.running_mean, model.bn.running_var))
        normal = (squares - mean) / torch.sqrt(variance + model.config.batch_norm_eps)
        decoded = model.decode(pipe._unpatchify_latents(squares)).sample
    assert_close(space.encode(images), normal.permute(0, 2, 3, 1).numpy(), 1e-4)
    apply = jax.jit(autoencoder.network.apply, static_argnames="method")
    latents = jnp.asarray(squares.permute(0, 2, 3, 1).numpy())
    found = apply({"params": autoencoder.params}, latents, method="decode")
    largest = decoded.abs().max().item()
    assert_close(found / largest, decoded.permute(0, 2, 3, 1).numpy() / largest, 1e-4)


def test_older_and_original_names_are_read_too(tmp_path):
    state = reference(use_quant_conv=False, use_post_quant_conv=False).state_dict()
    older = {re.sub("|".join(OLD), lambda at: OLD[at[0]], name): leaf for name, leaf in state.items()}
    files = {"diffusion_pytorch_model": state, "model": older, "ae": as_original(state, 3)}
    read = {}
    for name, tensors in files.items():
        (tmp_path / name).mkdir()
        safetensors.save_file(tensors, tmp_path / name / f"{name}.safetensors")
        (tmp_path / name / "config.json").write_text('{"norm_num_groups": 4}')
        read[name] = jaxflow.load_autoencoder(tmp_path / name)
        assert not read[name].network.quant
    assert len({found.digest for found in read.values()}) == 1


PUBLISHED = {  # channels of the latents, whether there are quant convolutions
    "Stable Diffusion 1 and 2, XL": (4, True),
    "Stable Diffusion 3, FLUX.1": (16, False),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_tensor_of_a_published_size_is_read(name, monkeypatch):
    """The names and shapes of the reference class, without its numbers."""
    latents, quant = PUBLISHED[name]
    options = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "norm_num_groups": 32}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    quants = {"use_quant_conv": quant, "use_post_quant_conv": quant, "latent_channels": latents}
    with torch.device("meta"):
        state = diffusers.AutoencoderKL(**SMALL | options | blocks | quants).state_dict()
    for tensors in (state, as_original(state, 4)):
        shapes = {name: tuple(leaf.shape) for name, leaf in tensors.items()}
        monkeypatch.setattr(autoencoder_kl, "convolution_of", lambda _, name, shapes=shapes: shapes[name][:3])
        asked = {}

        def names(_, like, name, blocks, asked=asked):
            for path, leaf in jax.tree_util.tree_leaves_with_path(like):
                asked[name(tuple(part.key for part in path))] = leaf.size
            return None

        monkeypatch.setattr(autoencoder_kl, "read_params", names)
        network = autoencoder_kl.read(dict.fromkeys(shapes, Path()), 32).network
        assert asked == {name: int(np.prod(shape)) for name, shape in shapes.items()}
        assert network == AutoencoderKL(latent_channels=latents, quant=quant)
        assert sum(leaf.size for leaf in jax.tree.leaves(Autoencoder(network).shapes)) == sum(asked.values())


@pytest.mark.parametrize(
    ("tensors", "config", "says"),
    [
        (
            {"model.weight": 1},
            "{}",
            r"has no autoencoder: expected AutoencoderKL or a TAESD.*'model\.weight'",
        ),
        ({"encoder.conv_in.weight": 1}, '{"norm_num_groups": "all"}', "norm_num_groups = 'all'"),
        (
            {"encoder.conv_in.weight": 1},
            "{}",
            r"'encoder\.conv_in\.weight' has the shape \(1,\), expected a con",
        ),
    ],
)
def test_another_file_is_rejected(tmp_path, tensors, config, says):
    safetensors.save_file(
        {name: torch.zeros(n) for name, n in tensors.items()}, tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=says):
        jaxflow.load_autoencoder(tmp_path)
