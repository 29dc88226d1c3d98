"""FLUX.1 from the folder of a pipeline, against diffusers on random weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pipelines
import pytest
from conftest import Lazy, assert_close

import jaxflow
from jaxflow import guidance, sampling, solvers, times
from jaxflow.pretrained import flux, tensors

torch, diffusers = Lazy("torch"), Lazy("diffusers")

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.requirement("R58")]

KINDS = {"schnell": {}, "dev": {"guidance_embeds": True}}


@pytest.fixture(scope="module", params=KINDS)
def pipeline(request, tmp_path_factory):
    """A small pipeline and its folder."""
    return pipelines.flux(tmp_path_factory.mktemp("pipeline"), **KINDS[request.param])


def test_the_whole_pipeline_draws_the_same_latents(pipeline):
    """The same noise and prompt, ten Euler steps on our own grid, w = 3: the latents, within 1e-3."""
    theirs, folder = pipeline
    model = jaxflow.load(folder, size=(16, 24))
    prompt = "a photo of the cat"
    noise = torch.randn((1, 16, 8, 12), generator=torch.Generator().manual_seed(1))
    packed = theirs._pack_latents(noise, 1, 16, 8, 12)
    options = {"num_inference_steps": 10, "output_type": "latent", "height": 16, "width": 24}
    guided = {"true_cfg_scale": 3.0, "negative_prompt": "", "guidance_scale": flux.DISTILLED_SCALE}
    packed = theirs(prompt, latents=packed, **options, **guided).images
    latents = theirs._unpack_latents(packed, 16, 24, 2).permute(0, 2, 3, 1).numpy()
    y = jax.tree.map(jnp.asarray, model.encode([prompt]))
    field = guidance.classifier_free(model.field, y, model.null, 3.0)
    grid = times.shifted(times.uniform(10), model.shift)
    sample = jax.jit(lambda noise: sampling.sample_ode(field, noise, grid, solver=solvers.euler()))
    found = sample(jnp.asarray(noise.permute(0, 2, 3, 1).numpy()))
    assert np.isfinite(latents).all()
    assert_close(found / np.abs(latents).max(), latents / np.abs(latents).max(), 1e-3)


def test_every_tensor_of_the_published_size_is_read(monkeypatch, tmp_path):
    """Of FLUX.1-dev, 12 billion parameters."""
    with torch.device("meta"):
        theirs = diffusers.FluxTransformer2DModel(guidance_embeds=True)
    shapes = {name: tuple(leaf.shape) for name, leaf in theirs.state_dict().items()}
    theirs.save_config(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    asked = {}

    def reading(used, like, name, blocks, dtype):
        for path, leaf in jax.tree_util.tree_leaves_with_path(like):
            found = name(tuple(part.key for part in path))
            asked[found.key if isinstance(found, tensors.Part) else found] = leaf.size
        return tensors.Stored(like, dict)

    monkeypatch.setattr(flux, "find_params", reading)
    flux.read(dict.fromkeys(shapes, tmp_path), tmp_path / "config.json", config)
    assert asked == {name: int(np.prod(shape)) for name, shape in shapes.items()}
    assert sum(asked.values()) == 11_901_408_320


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"axes_dims_rope": (4, 6, 4)}, "its network cannot be built: axes"),
        ({"patch_size": 2}, "patch_size or axes_dims_rope"),
        ({"num_layers": 10**9}, "its network cannot be built: depth = 1000000000"),
    ],
)
def test_another_network_is_rejected(changes, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        flux.read({}, tmp_path / "config.json", pipelines.FLUX | changes)
