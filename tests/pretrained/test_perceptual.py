"""LPIPS against torch running VGG16's published layers on the same random weights."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Lazy, assert_close

from experiments import presets
from jaxflow import nn
from jaxflow.nn.vgg import CHANNELS
from jaxflow.pretrained import perceptual
from jaxflow.runs.autoencoder_run import AutoencoderRun
from jaxflow.runs.objective import objective

torch, safetensors = Lazy("torch"), Lazy("safetensors.torch")

pytestmark = pytest.mark.usefixtures("standard_promotion")


def layers():
    """torchvision's `vgg16().features`."""
    inputs, made = 3, []
    for widths in CHANNELS:
        for width in widths:
            made += [torch.nn.Conv2d(inputs, width, 3, padding=1), torch.nn.ReLU()]
            torch.nn.init.kaiming_normal_(made[-2].weight)
            inputs = width
        made.append(torch.nn.MaxPool2d(2))
    return torch.nn.Sequential(*made)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder, the network in it, and the weights of its channels."""
    folder = tmp_path_factory.mktemp("vgg")
    torch.manual_seed(0)
    features = layers()
    tensors = {f"features.{name}": leaf for name, leaf in features.state_dict().items()}
    safetensors.save_file(tensors | {"classifier.0.weight": torch.zeros(2)}, folder / "model.safetensors")
    weights = [torch.rand(1, widths[-1], 1, 1) for widths in CHANNELS]
    named = {f"lin{i}.model.1.weight": weight for i, weight in enumerate(weights)}
    safetensors.save_file(named, folder / "lpips.safetensors")
    return folder, features, weights


def lpips(features, weights, images, others):
    """The published formula."""
    mean, deviation = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    found = []
    for batch in (images, others):
        x = (torch.from_numpy(np.broadcast_to(batch, (*batch.shape[:-1], 3)).copy()) - mean) / deviation
        x, taps = x.permute(0, 3, 1, 2), []
        for layer in features:
            if isinstance(layer, torch.nn.MaxPool2d):
                taps.append(x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10))
            x = layer(x) if len(taps) < len(CHANNELS) else x
        found.append(taps)
    pairs = zip(*found, weights, strict=True)
    return sum(((f - g) ** 2 * weight).sum(1).mean((1, 2)) for f, g, weight in pairs).detach().numpy()


def pair(side, channels):
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (3, side, side, channels)).astype(np.float32)
    others = np.clip(images + 0.2 * random.standard_normal(images.shape), -1, 1).astype(np.float32)
    return jnp.asarray(images), jnp.asarray(others)


@pytest.mark.requirement("R58")
def test_the_distance_is_that_of_torch(published):
    folder, features, weights = published
    images, others = pair(20, 3)
    found = jax.jit(perceptual.load(folder))(images, others)
    assert_close(found / lpips(features, weights, images, others), jnp.ones(3), 1e-4)


def test_a_broken_folder_is_rejected(published, tmp_path):
    folder, *_ = published
    safetensors.save_file({"lin0.model.1.weight": torch.rand(1, 64, 1, 1)}, tmp_path / "lpips.safetensors")
    with pytest.raises(FileNotFoundError, match="has no weights"):
        perceptual.load(tmp_path)
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"lpips\.safetensors has no tensor 'lin1\.model\.1\.weight'"):
        perceptual.load(tmp_path)
    (tmp_path / "lpips.safetensors").unlink()
    assert all((weight == 1).all() for weight in perceptual.load(tmp_path).weights)


def test_the_loss_of_an_autoencoder_has_it(published):
    network = nn.AutoencoderKL(image_channels=1, channels=(4,), groups=1, blocks=1, attention=False, patch=4)
    plain = replace(presets.load("autoencoder").experiment, network=network, sample_every=0)
    batch = {
        "image": np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1), dtype=np.uint8),
        "number": jnp.arange(2, dtype=jnp.int32),
        "beta": jnp.zeros(2),
        "adversarial": jnp.zeros(2),
    }

    def loss(experiment):
        run = AutoencoderRun(experiment, "", (16, 16, 1))
        return objective(run)(run.initial_params(jax.random.key(0)), jax.random.key(1), batch)

    with_term = replace(plain, perceptual=str(published[0]), perceptual_weight=3.0)
    value = jax.jit(lambda: loss(with_term) - loss(plain))()
    assert value.shape == (2,)
    assert float(value.min()) > 0.01
    with pytest.raises(ValueError, match="8 x 8 x 1: the perceptual term needs"):
        perceptual.load(published[0])(*pair(8, 1))
