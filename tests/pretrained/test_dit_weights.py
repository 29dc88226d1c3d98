"""DiT from its files: against diffusers' network and pipeline, and the original names, on random weights."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pipelines
import pytest
from conftest import Lazy, assert_close, normal

import jaxflow
from jaxflow import guidance, paths, sampling, times
from jaxflow.nn.dit import published
from jaxflow.pretrained import dit, tensors
from jaxflow.runs import loading

torch, safetensors, diffusers = Lazy("torch"), Lazy("safetensors.torch"), Lazy("diffusers")

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.requirement("R58")]

WEIGHTS = "diffusion_pytorch_model.safetensors"
ORIGINAL = {
    "pos_embed.proj": "x_embedder.proj",
    "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "transformer_blocks.0.norm1.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "transformer_blocks.0.norm1.emb.class_embedder": "y_embedder",
    "transformer_blocks": "blocks",
    "norm1.linear": "adaLN_modulation.1",
    "attn1.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
    "proj_out_1": "final_layer.adaLN_modulation.1",
    "proj_out_2": "final_layer.linear",
}


def as_original(state, depth):
    """The tensors with the names of the original code, which has one embedding and joins q, k and v."""
    kept = {name: leaf for name, leaf in state.items() if ".emb." not in name or "blocks.0.norm1" in name}
    for i in range(depth):
        for kind in ("weight", "bias"):
            names = [f"transformer_blocks.{i}.attn1.to_{part}.{kind}" for part in "qkv"]
            kept[f"transformer_blocks.{i}.attn.qkv.{kind}"] = torch.cat([kept.pop(name) for name in names])
    found = {"pos_embed": torch.zeros(1, 16, 8)}
    for name, leaf in kept.items():
        for old, new in ORIGINAL.items():
            name = name.replace(old, new)
        found[name] = leaf.contiguous()
    return found


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A small DiTPipeline, and its folder."""
    return pipelines.dit(tmp_path_factory.mktemp("pipeline"))


def test_the_whole_pipeline_draws_the_same_images(pipeline):
    """The same noise, ten steps of DDIM, w = 4: its images, decoded, within 1e-3."""
    theirs, folder = pipeline
    model = jaxflow.load(folder)
    assert model.classes[:4] == ("tench", "goldfish", "crane", "3")
    assert model.space.image_shape == (16, 16, 3)
    assert model.space.deviation == (4.0,) * 4
    labels = [2, 0]
    options = {"guidance_scale": 4.0, "num_inference_steps": 10, "output_type": "np"}
    images = theirs(labels, generator=torch.Generator().manual_seed(1), **options).images
    noise = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    noise = jnp.asarray(noise.permute(0, 2, 3, 1).numpy())
    field = guidance.classifier_free(model.field, model.encode(labels), model.null, 4.0)

    @jax.jit
    def sample(noise):
        keys = jax.random.split(jax.random.key(0), 2)
        # Their times; the last step ends at the data.
        events = sampling.sample_ddpm(keys, field, model.path, noise, times.uniform(10), eta=0.0)
        network = model.space.autoencoder.network
        return network.apply({"params": model.space.autoencoder.params}, 4 * events, method="decode")

    decoded = jnp.clip(sample(noise) / 2 + 0.5, 0, 1)
    assert_close(decoded, images, 1e-3)
    drawn = model.sample(0, ["crane", 0, None], w=4.0, rule="projected", steps=2)
    assert (drawn.shape, drawn.dtype) == ((3, 16, 16, 3), np.uint8)


def test_the_network_is_that_of_diffusers_and_of_the_original_code(pipeline, tmp_path):
    theirs, folder = pipeline
    network, stored, classes = dit.read(tensors.find_tensors(folder / "transformer"), 2)
    assert (classes, network.depth, network.patch, network.learned_variance) == (1000, 2, 2, True)
    random = np.random.default_rng(0)
    x, steps = random.standard_normal((3, 8, 8, 4)).astype(np.float32), np.array([0, 500, 999])
    y = np.array([0, 1000, 2])
    with torch.no_grad():
        arguments = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(steps), torch.from_numpy(y)
        expected = theirs.transformer(*arguments).sample[:, :4].permute(0, 2, 3, 1).numpy()
    at = jnp.asarray(steps / 1000, jnp.float32)
    params = stored.read()
    assert jax.eval_shape(lambda: params) == stored.shapes
    found = jax.jit(network.apply)({"params": params}, x, at, y)
    assert_close(found / np.abs(expected).max(), expected / np.abs(expected).max(), 1e-4)
    state = as_original(theirs.transformer.state_dict(), 2)
    safetensors.save_file(state, tmp_path / "model.safetensors")
    same = dit.read(tensors.find_tensors(tmp_path), 2)
    jax.tree.map(lambda a, b: assert_close(a, b, 0), same.params.read(), params)
    assert same.network.period == 1e4


def test_a_copy_that_differs_is_rejected(pipeline, tmp_path):
    state = dict(pipeline[0].transformer.state_dict())
    name = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"
    state[name] = state[name] + 1
    safetensors.save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"linear_1\.bias' is no copy of"):
        dit.read(tensors.find_tensors(tmp_path), 2)
    with pytest.raises(ValueError, match="no published DiT has 16 channels"):
        dit.read(tensors.find_tensors(tmp_path))


def test_every_tensor_of_the_published_size_is_read(monkeypatch):
    """DiT-XL/2, by the names and shapes of diffusers and of the original code, without the numbers."""
    with torch.device("meta"):
        model = diffusers.DiTTransformer2DModel(
            num_attention_heads=16, attention_head_dim=72, in_channels=4, out_channels=8, num_layers=28
        )
    state = model.state_dict()
    for names in (state, as_original(state, 28)):
        shapes = {name: tuple(leaf.shape) for name, leaf in names.items()}
        monkeypatch.setattr(dit, "convolution_of", lambda _, name, shapes=shapes: shapes[name][:3])
        monkeypatch.setattr(dit, "matrix_of", lambda _, name, shapes=shapes: shapes[name])
        monkeypatch.setattr(dit, "same", lambda *_: True)
        asked = {}

        def reading(left, like, name, blocks, dtype, asked=asked, shapes=shapes):
            for path, leaf in jax.tree_util.tree_leaves_with_path(like):
                found = name(tuple(part.key for part in path))
                key = found if isinstance(found, str) else found.key
                asked[key] = asked.get(key, 0) + leaf.size
            assert asked == {name: int(np.prod(shapes[name])) for name in left}
            return tensors.Stored(like, dict)

        monkeypatch.setattr(dit, "find_params", reading)
        network = dit.read(dict.fromkeys(shapes, tensors.Path())).network
        own = published("XL", 2, network.encode, period=network.period)
        assert network == own


def test_another_pipeline_is_rejected(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "Flux2Pipeline"}))
    with pytest.raises(
        ValueError, match="is a pipeline 'Flux2Pipeline': must be one of DiTPipeline, SiTPipeline, Stable"
    ):
        jaxflow.load(tmp_path)


def test_the_network_of_a_pipeline_stands_for_it(pipeline):
    whole, found = (jaxflow.load(folder) for folder in (pipeline[1], pipeline[1] / "transformer"))
    assert found.classes[:2] == ("tench", "goldfish")
    jax.tree.map(lambda a, b: assert_close(a, b, 0), found.params, whole.params)
    assert loading.results(pipeline[1] / "transformer") == pipeline[1].with_name("pipeline-results")


@pytest.mark.parametrize(("name", "prediction"), [("DiT", "noise"), ("SiT", "velocity")])
def test_a_network_alone_is_a_model_with_the_autoencoder_that_is_named(name, prediction, pipeline, tmp_path):
    """By the names of the original code too; the path of a DiT is the published one."""
    theirs, folder = pipeline
    config = {"_class_name": name, "sample_size": 8, "num_attention_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    safetensors.save_file(as_original(theirs.transformer.state_dict(), 2), tmp_path / "model.safetensors")
    model, whole = jaxflow.load(tmp_path, autoencoder=folder / "vae"), jaxflow.load(folder)
    assert (model.prediction, model.classes[3]) == (prediction, "3")
    assert (model.space, model.event_shape) == (whole.space, (8, 8, 4))
    jax.tree.map(lambda a, b: assert_close(a, b, 0), model.params, whole.params)
    assert (model.path == paths.Linear()) == (name == "SiT")
    if name == "DiT":
        assert_close(model.path.betas, whole.path.betas, 0)
    with pytest.raises(ValueError, match=r"autoencoder is missing: .* has none, name the folder"):
        jaxflow.load(tmp_path)
    other = pipelines.autoencoder(channels=5)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=r"autoencoder: its latents have 5 channels, those of .* 4"):
        jaxflow.load(tmp_path, autoencoder=tmp_path / "other")


def test_a_folder_that_is_no_generator_says_what_it_is(pipeline, tmp_path):
    with pytest.raises(ValueError, match="vae is an autoencoder: read it with load_autoencoder"):
        jaxflow.load(pipeline[1] / "vae")
    shutil.copy(pipeline[1] / "vae" / WEIGHTS, tmp_path)
    with pytest.raises(ValueError, match="is an autoencoder"):
        jaxflow.load(tmp_path)
    shutil.copy(pipeline[1] / "transformer" / WEIGHTS, tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "FluxTransformer2DModel"}')
    with pytest.raises(ValueError, match=r"'FluxTransformer2DModel': name the folder with model_index\.json"):
        jaxflow.load(tmp_path)


def test_sit_has_the_network_at_the_time_itself_and_predicts_the_velocity(pipeline, tmp_path):
    """From data to noise as here; its pipeline is laid out as that of DiT, without a scheduler."""
    theirs, folder = pipeline
    shutil.copytree(folder, tmp_path / "sit")
    shutil.rmtree(tmp_path / "sit" / "scheduler")
    (tmp_path / "sit" / "model_index.json").write_text('{"_class_name": "SiTPipeline"}')
    model = jaxflow.load(tmp_path / "sit")
    assert (model.path, model.prediction) == (paths.Linear(), "velocity")
    x, t, y = normal(2, 8, 8, 4), jnp.array([0.2, 0.9]), jnp.array([3, 1000])
    of_torch = [torch.from_numpy(np.array(part)) for part in (x.transpose(0, 3, 1, 2), t, y)]
    with torch.no_grad():
        expected = theirs.transformer(of_torch[0], timestep=of_torch[1], class_labels=of_torch[2]).sample[
            :, :4
        ]
    expected = expected.permute(0, 2, 3, 1).numpy()
    largest = np.abs(expected).max()
    assert_close(jax.jit(model.field)(x, t, y) / largest, expected / largest, 1e-4)


def test_three_of_four_channels_are_guided_on_request(pipeline):
    """As in the original code: the fourth is that of the conditional model."""
    model = jaxflow.load(pipeline[1])
    x, t, y = normal(1, 8, 8, 4), jnp.array([0.3]), jnp.array([1])
    field = lambda rule, w: jax.jit(rule(model.field, y, model.null, w))(x, t)  # noqa: E731
    three, every = field(guidance.on_channels(3), 4.0), field(guidance.classifier_free, 4.0)
    assert_close(three[..., :3], every[..., :3], 1e-5)
    assert_close(three[..., 3], field(guidance.classifier_free, 1.0)[..., 3], 1e-4)
    assert model.sample(0, [1], w=2.0, rule="three_channels", steps=1).shape == (1, 16, 16, 3)
