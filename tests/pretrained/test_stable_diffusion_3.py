"""Stable Diffusion 3 and 3.5 from the folder of a pipeline, against diffusers on random weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pipelines
import pytest
from conftest import Lazy, assert_close

import jaxflow
from jaxflow import editing, guidance, per_example, sampling, solvers
from jaxflow.pretrained import sd3, tensors

torch, diffusers = Lazy("torch"), Lazy("diffusers")

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.requirement("R58")]

KINDS = {
    "3": {},
    "3 without T5": {"with_t5": False},
    "3.5": {"qk_norm": "rms_norm", "dual_attention_layers": (0, 1)},
}


@pytest.fixture(scope="module", params=KINDS)
def pipeline(request, tmp_path_factory):
    """A small pipeline and its folder."""
    return pipelines.stable_diffusion_3(tmp_path_factory.mktemp("pipeline"), **KINDS[request.param])


def test_the_whole_pipeline_draws_the_same_latents(pipeline):
    """The same noise and prompt, ten Euler steps, w = 7.5: the latents, within 1e-3 of the largest."""
    theirs, folder = pipeline
    model = jaxflow.load(folder)
    prompts = ["a photo of the cat", "the cat and the photo"]
    noise = torch.randn((2, 16, 8, 8), generator=torch.Generator().manual_seed(1))
    options = {"guidance_scale": 7.5, "num_inference_steps": 10, "output_type": "latent"}
    latents = theirs(prompts, latents=noise, **options).images.permute(0, 2, 3, 1).numpy()
    field = guidance.classifier_free(model.field, model.encode(prompts), model.null, 7.5)
    grid = jnp.asarray(1 - theirs.scheduler.sigmas.numpy())
    sample = jax.jit(lambda noise: sampling.sample_ode(field, noise, grid, solver=solvers.euler()))
    found = sample(jnp.asarray(noise.permute(0, 2, 3, 1).numpy()))
    assert np.isfinite(latents).all()
    assert_close(found / np.abs(latents).max(), latents / np.abs(latents).max(), 1e-3)


@pytest.mark.parametrize("pipeline", ["3"], indirect=True)
def test_its_time_grid_is_shifted_as_published(pipeline):
    model = jaxflow.load(pipeline[1])
    assert model.shift == 3.0
    images = model.sample(0, ["the cat"], steps=2, solver="euler")
    again = model.sample(0, ["the cat"], steps=2, solver="euler", shift=3.0)
    assert np.array_equal(images, again)
    assert not np.array_equal(images, model.sample(0, ["the cat"], steps=2, solver="euler", shift=1.0))


@pytest.fixture
def edited(pipeline, monkeypatch):
    """Latents of diffusers and of ours, in the same noise, from a pipeline's options and our function."""
    theirs, folder = pipeline
    model = jaxflow.load(folder)

    def both(kind, function, **options):
        data, noise, latents, scheduler = pipelines.edited(theirs, kind, **options)
        monkeypatch.setattr(per_example, "normal", lambda keys, shape, dtype: jnp.asarray(noise))
        sigmas = scheduler.sigmas.numpy()
        field = guidance.classifier_free(model.field, model.encode(["the cat"]), model.null, 7.5)
        ours = jax.jit(lambda data: function(jax.random.key(0), field, model.path, data, sigmas))
        largest = np.abs(latents).max()
        assert_close(ours(data) / largest, latents / largest, 1e-3)

    return both


@pytest.mark.requirement("R64")
@pytest.mark.parametrize("pipeline", ["3"], indirect=True)
def test_variations_of_a_picture_are_those_of_diffusers(edited):
    def vary(key, field, path, data, sigmas):
        strength = sigmas[4]
        grid = jnp.asarray((strength - sigmas[4:]) / strength)
        options = {"strength": float(strength), "solver": solvers.euler()}
        return editing.image_to_image(key, field, path, data, grid, **options)

    edited("StableDiffusion3Img2ImgPipeline", vary, strength=0.6)


@pytest.mark.requirement("R64")
@pytest.mark.parametrize("pipeline", ["3"], indirect=True)
def test_a_picture_is_completed_as_by_diffusers(edited):
    """Which keeps the noise of the known part. The mask is white where to draw anew."""
    mask = np.zeros((16, 16), np.float32)
    mask[4:12, 6:] = 1

    def complete(key, field, path, data, sigmas):
        known = jnp.asarray(mask[::2, ::2, None] == 0)
        options = {"same_noise": True, "solver": solvers.euler()}
        return editing.inpaint(key, field, path, data, known, jnp.asarray(1 - sigmas), **options)

    given = torch.zeros(1, 16, 8, 8)
    image = {"mask_image": torch.from_numpy(mask)[None, None], "masked_image_latents": given}
    edited("StableDiffusion3InpaintPipeline", complete, strength=1.0, height=16, width=16, **image)


PUBLISHED = {
    "3 medium": ({"num_layers": 24, "num_attention_heads": 24, "pos_embed_max_size": 192}, 2_028_328_000),
    "3.5 medium": (
        {
            "num_layers": 24,
            "num_attention_heads": 24,
            "pos_embed_max_size": 384,
            "qk_norm": "rms_norm",
            "dual_attention_layers": tuple(range(13)),
        },
        2_243_171_520,
    ),
    "3.5 large": (
        {
            "num_layers": 38,
            "num_attention_heads": 38,
            "pos_embed_max_size": 192,
            "qk_norm": "rms_norm",
        },
        8_056_627_520,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_tensor_of_the_published_size_is_read(name, monkeypatch, tmp_path):
    options, size = PUBLISHED[name]
    width = 64 * options["num_attention_heads"]
    with torch.device("meta"):
        theirs = diffusers.SD3Transformer2DModel(caption_projection_dim=width, **options)
    shapes = {name: tuple(leaf.shape) for name, leaf in theirs.state_dict().items()}
    theirs.save_config(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    asked = {}

    def reading(used, like, name, blocks, dtype):
        for path, leaf in jax.tree_util.tree_leaves_with_path(like):
            found = name(tuple(part.key for part in path))
            asked[found.key if isinstance(found, tensors.Part) else found] = leaf.size
        assert asked.keys() == used.keys()
        return tensors.Stored(like, dict)

    monkeypatch.setattr(sd3, "find_params", reading)
    sd3.read(dict.fromkeys(shapes, tmp_path), tmp_path / "config.json", config)
    assert asked == {name: int(np.prod(shapes[name])) for name in asked}
    left = {name.rpartition("attn.")[2] for name in shapes.keys() - asked.keys()}
    assert left <= set(sd3.UNUSED)
    assert sum(leaf.numel() for leaf in theirs.parameters()) == size


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"qk_norm": "layer_norm"}, "qk_norm = 'layer_norm': must be None or 'rms_norm'"),
        ({"dual_attention_layers": [1]}, r"dual_attention_layers = \[1\]: must be the first layers"),
        ({"num_layers": 10**9}, "its network cannot be built: depth = 1000000000"),
        ({"patch_size": True}, "patch_size = True: expected a positive whole number"),
        ({"joint_attention_dim": None}, "joint_attention_dim = None: expected a positive whole number"),
    ],
)
def test_another_network_is_rejected(changes, says, tmp_path):
    config = {"patch_size": 2, "in_channels": 16, **pipelines.MMDIT, **changes}
    with pytest.raises(ValueError, match=says):
        sd3.read({}, tmp_path / "config.json", config)
