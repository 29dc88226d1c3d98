"""Stable Diffusion 1 and 2 from the folder of a pipeline, against diffusers on random weights."""

import json

import clip_folder
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Lazy, assert_close

import jaxflow
from jaxflow import guidance, sampling, times
from jaxflow.nn.stable_unet import StableUNet
from jaxflow.pretrained import stable_unet

torch, diffusers, transformers = Lazy("torch"), Lazy("diffusers"), Lazy("transformers")

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.requirement("R58")]

UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": clip_folder.TEXT["hidden_size"],
    "norm_num_groups": 4,
}
VAE = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
KINDS = {
    "1": ({"attention_head_dim": 2}, "epsilon"),
    "2": ({"attention_head_dim": [2, 4], "use_linear_projection": True}, "v_prediction"),
}


@pytest.fixture(scope="module", params=KINDS)
def pipeline(request, tmp_path_factory):
    """A small pipeline and its folder."""
    options, prediction = KINDS[request.param]
    folder = tmp_path_factory.mktemp("pipeline")
    text = clip_folder.write(folder / "clip")
    unet = clip_folder.disturbed(diffusers.UNet2DConditionModel(**UNET, **options))
    vae = diffusers.AutoencoderKL(block_out_channels=(4, 4), norm_num_groups=2, scaling_factor=0.18215, **VAE)
    made = diffusers.StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text,
        tokenizer=transformers.CLIPTokenizer.from_pretrained(
            folder / "clip", model_max_length=clip_folder.POSITIONS
        ),
        unet=unet,
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            steps_offset=1,
            timestep_spacing="trailing",
            prediction_type=prediction,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.save_pretrained(folder / "pipeline")
    clip_folder.write_tokenizer(folder / "pipeline" / "tokenizer")
    made.set_progress_bar_config(disable=True)
    return made, folder / "pipeline"


def test_the_whole_pipeline_draws_the_same_latents(pipeline):
    """The same noise and prompt, ten steps of DDIM, w = 7.5: the latents, within 1e-3 of the largest."""
    theirs, folder = pipeline
    model = jaxflow.load(folder)
    prompts = ["a photo of the cat", "the cat and the photo"]
    noise = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    options = {"guidance_scale": 7.5, "num_inference_steps": 10, "output_type": "latent"}
    latents = theirs(prompts, latents=noise, **options).images.permute(0, 2, 3, 1).numpy()
    field = guidance.classifier_free(model.field, model.encode(prompts), model.null, 7.5)

    @jax.jit
    def sample(noise):
        keys = jax.random.split(jax.random.key(0), 2)
        return sampling.sample_ddpm(keys, field, model.path, noise, times.uniform(10), eta=0.0)

    found = sample(jnp.asarray(noise.permute(0, 2, 3, 1).numpy()))
    assert np.isfinite(latents).all()
    assert_close(found / np.abs(latents).max(), latents / np.abs(latents).max(), 1e-3)


@pytest.mark.parametrize("pipeline", ["1"], indirect=True)
def test_it_is_a_model_like_any_other(pipeline):
    """In 16 bits on request."""
    model = jaxflow.load(pipeline[1], dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {jnp.dtype("bfloat16")}
    images = model.sample(0, ["the cat", None], steps=2)
    assert (images.shape, images.dtype) == ((2, 16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="w = inf: the guidance scale must be finite"):
        model.sample(0, ["the cat"], w=np.inf)


PUBLISHED = {
    "1": ({"attention_head_dim": 8, "cross_attention_dim": 768}, (8, 8, 8, 8), 859_520_964),
    "2": (
        {
            "attention_head_dim": [5, 10, 20, 20],
            "cross_attention_dim": 1024,
            "use_linear_projection": True,
        },
        (5, 10, 20, 20),
        865_910_724,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_tensor_of_the_published_size_is_read(name, monkeypatch, tmp_path):
    options, heads, size = PUBLISHED[name]
    with torch.device("meta"):
        model = diffusers.UNet2DConditionModel(**options)
    shapes = {name: tuple(leaf.shape) for name, leaf in model.state_dict().items()}
    model.save_config(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    monkeypatch.setattr(stable_unet, "matrix_of", lambda _, name: shapes[name])
    asked = {}

    def reading(_, like, name, blocks, dtype):
        for path, leaf in jax.tree_util.tree_leaves_with_path(like):
            asked[name(tuple(part.key for part in path))] = leaf.size

    monkeypatch.setattr(stable_unet, "read_params", reading)
    network, _ = stable_unet.read({}, tmp_path / "config.json", config)
    assert network == StableUNet(heads=heads)
    assert asked == {name: int(np.prod(shape)) for name, shape in shapes.items()}
    assert sum(asked.values()) == size


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"addition_embed_type": "text_time"},
            "addition_embed_type = 'text_time': must be None, as in Stable",
        ),
        ({"block_out_channels": 8}, "block_out_channels = 8, down_block_types"),
        ({"norm_num_groups": 10**9}, "its network cannot be built: .*1000000000"),
        ({"layers_per_block": 10**9}, "its network cannot be built: blocks = 1000000000"),
    ],
)
def test_another_network_is_rejected(changes, says, tmp_path, monkeypatch):
    monkeypatch.setattr(stable_unet, "matrix_of", lambda *_: (8, 32))
    config = {"block_out_channels": [8, 16], "down_block_types": ["DownBlock2D"] * 2} | changes
    with pytest.raises(ValueError, match=says):
        stable_unet.read({}, tmp_path / "config.json", config)
