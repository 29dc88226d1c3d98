"""Kernels of torch layers become those of Flax layers with the same output."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Lazy, assert_close
from flax import linen

from jaxflow.pretrained.tensors import find_tensors, name_of, read_params

torch, safetensors = Lazy("torch"), Lazy("safetensors.torch")
NAMES = {"block_": "layers.", "kernel": "weight"}
LAYERS = {
    "dense": (lambda: torch.nn.Linear(2, 3), linen.Dense(3), (2,)),
    "one_axis": (lambda: torch.nn.Conv1d(2, 3, 5), linen.Conv(3, (5,), padding="VALID"), (7, 2)),
    "two_axes": (lambda: torch.nn.Conv2d(2, 3, (4, 2)), linen.Conv(3, (4, 2), padding="VALID"), (6, 5, 2)),
    "square": (lambda: torch.nn.Conv2d(2, 3, 3), linen.Conv(3, (3, 3), padding="VALID"), (6, 5, 2)),
}


def stored(folder, layer):
    """Save random tensors for the layer."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"layers.0.{name}": torch.randn(tensor.shape, generator=generator)
        for name, tensor in layer.state_dict().items()
    }
    safetensors.save_file(tensors, folder / "model.safetensors")
    return {name.removeprefix("layers.0."): tensor for name, tensor in tensors.items()}


def read(folder, module, x):
    shapes = {"block_0": jax.eval_shape(module.init, jax.random.key(0), x)["params"]}
    return read_params(find_tensors(folder), shapes, partial(name_of, names=NAMES), "layers.")["block_0"]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_equals_that_of_torch(tmp_path, name):
    make, module, shape = LAYERS[name]
    layer = make()
    layer.load_state_dict(stored(tmp_path, layer))
    x = np.random.default_rng(0).standard_normal((2, *shape), np.float32)
    with torch.no_grad():
        expected = layer(torch.tensor(np.moveaxis(x, -1, 1))).numpy()
    out = module.apply({"params": read(tmp_path, module, x)}, jnp.asarray(x))
    assert_close(np.moveaxis(np.asarray(out), -1, 1), expected, 1e-5)


def test_swapped_height_and_width_are_rejected(tmp_path):
    stored(tmp_path, LAYERS["two_axes"][0]())
    message = r"'layers.0.weight' has the shape \(3, 2, 4, 2\), expected \(3, 2, 2, 4\)"
    with pytest.raises(ValueError, match=message):
        read(tmp_path, linen.Conv(3, (2, 4)), jnp.zeros((2, 6, 5, 2)))


def test_a_kernel_of_unknown_layout_is_rejected(tmp_path):
    stored(tmp_path, torch.nn.Conv3d(2, 3, 2))
    with pytest.raises(ValueError, match=r"block_0.kernel has 5 axes: must be one of 2, 3, 4"):
        read(tmp_path, linen.Conv(3, (2, 2, 2)), jnp.zeros((2, 6, 5, 4, 2)))
