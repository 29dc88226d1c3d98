"""Stable Diffusion 1, 2 and XL from the folder of a pipeline, against diffusers on random weights."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pipelines
import pytest
from conftest import Lazy, assert_close

import jaxflow
from jaxflow import editing, guidance, paths, per_example, sampling, solvers, times
from jaxflow.nn.stable_unet import StableUNet
from jaxflow.pretrained import stable_unet, tensors

torch, diffusers = Lazy("torch"), Lazy("diffusers")

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.requirement("R58")]

KINDS = {
    "1": lambda folder: pipelines.stable_diffusion(folder, attention_head_dim=2),
    "2": lambda folder: pipelines.stable_diffusion(
        folder, "v_prediction", attention_head_dim=[2, 4], use_linear_projection=True
    ),
    "XL": pipelines.stable_diffusion_xl,
}


@pytest.fixture(scope="module", params=KINDS)
def pipeline(request, tmp_path_factory):
    """A small pipeline and its folder."""
    return KINDS[request.param](tmp_path_factory.mktemp("pipeline"))


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
    images = model.sample(0, ["the cat", None])
    assert (images.shape, images.dtype) == ((2, 16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="w = inf: the guidance scale must be finite"):
        model.sample(0, ["the cat"], w=np.inf)


@pytest.fixture
def edited(pipeline, monkeypatch):
    """Latents of diffusers and of ours, in the same noise, from a pipeline's options and our function."""
    theirs, folder = pipeline
    model = jaxflow.load(folder)
    ddim = solvers.ancestral(model.path, eta=0.0)._replace(stochastic=False)

    def both(kind, function, **options):
        data, noise, latents, _ = pipelines.edited(theirs, kind, **options)
        monkeypatch.setattr(per_example, "normal", lambda keys, shape, dtype: jnp.asarray(noise))
        field = guidance.classifier_free(model.field, model.encode(["the cat"]), model.null, 7.5)
        ours = jax.jit(lambda data: function(jax.random.key(0), field, model.path, data, solver=ddim))
        largest = np.abs(latents).max()
        assert_close(ours(data) / largest, latents / largest, 1e-3)

    return both


@pytest.mark.requirement("R64")
@pytest.mark.parametrize("pipeline", ["1", "XL"], indirect=True)
def test_variations_of_a_picture_are_those_of_diffusers(edited, request):
    """By DDIM: six of ten steps, from the noise of the fourth."""
    kind = request.node.callspec.params["pipeline"].replace("1", "")
    vary = partial(editing.image_to_image, times=6, strength=0.6)
    edited(f"StableDiffusion{kind}Img2ImgPipeline", vary, strength=0.6)


@pytest.mark.requirement("R64")
@pytest.mark.parametrize("pipeline", ["1"], indirect=True)
def test_a_picture_is_completed_as_by_diffusers(edited):
    """Which keeps the noise of the known part, and at the start, where a table has data left, has none."""
    mask = np.zeros((16, 16), np.float32)
    mask[4:12, 6:] = 1

    def complete(key, field, path, data, solver):
        known = jnp.asarray(mask[::2, ::2, None] == 0)
        of_noise = paths.from_functions(
            lambda t: jnp.where(t > 0, path.alpha(t), 0), lambda t: jnp.where(t > 0, path.beta(t), 1)
        )
        return editing.inpaint(key, field, of_noise, data, known, 10, same_noise=True, solver=solver)

    image = {
        "mask_image": torch.from_numpy(mask)[None, None],
        "masked_image_latents": torch.zeros(1, 4, 8, 8),
    }
    edited("StableDiffusionInpaintPipeline", complete, strength=1.0, height=16, width=16, **image)


PUBLISHED = {
    "1": ({"attention_head_dim": 8, "cross_attention_dim": 768}, {}, 859_520_964),
    "2": (
        {
            "attention_head_dim": [5, 10, 20, 20],
            "cross_attention_dim": 1024,
            "use_linear_projection": True,
        },
        {"heads": (5, 10, 20, 20)},
        865_910_724,
    ),
    "XL": (
        {
            "block_out_channels": [320, 640, 1280],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "attention_head_dim": [5, 10, 20],
            "transformer_layers_per_block": [1, 2, 10],
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        {
            "channels": (320, 640, 1280),
            "attention": (False, True, True),
            "heads": (5, 10, 20),
            "depths": (1, 2, 10),
        },
        2_567_463_684,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_tensor_of_the_published_size_is_read(name, monkeypatch, tmp_path):
    options, attributes, size = PUBLISHED[name]
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
        return tensors.Stored(like, dict)

    monkeypatch.setattr(stable_unet, "find_params", reading)
    network, _ = stable_unet.read({}, tmp_path / "config.json", config)
    assert network == StableUNet(**attributes)
    assert asked == {name: int(np.prod(shape)) for name, shape in shapes.items()}
    assert sum(asked.values()) == size


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"class_embed_type": "timestep"},
            "class_embed_type = 'timestep': must be None, as in Stable",
        ),
        ({"block_out_channels": 8}, "block_out_channels = 8, down_block_types"),
        ({"addition_embed_type": "image"}, "addition_embed_type = 'image': must be None or 'text_time'"),
        ({"transformer_layers_per_block": [1]}, "depths has 1 entries: expected one for each of 2"),
        ({"norm_num_groups": 10**9}, "its network cannot be built: .*1000000000"),
        ({"layers_per_block": 10**9}, "its network cannot be built: blocks = 1000000000"),
    ],
)
def test_another_network_is_rejected(changes, says, tmp_path, monkeypatch):
    monkeypatch.setattr(stable_unet, "matrix_of", lambda *_: (8, 32))
    config = {"block_out_channels": [8, 16], "down_block_types": ["DownBlock2D"] * 2} | changes
    with pytest.raises(ValueError, match=says):
        stable_unet.read({}, tmp_path / "config.json", config)
