"""Inception-v3 against its graph in torch, written from the layers of torch-fidelity, on random weights."""

import jax
import numpy as np
import pytest
from conftest import Lazy, assert_close

from jaxflow.nn.inception import resized
from jaxflow.pretrained import extractors, inception

torch, safetensors = Lazy("torch"), Lazy("safetensors.torch")


class Graph:
    """The graph, which draws the weights of a layer when it first runs it."""

    def __init__(self):
        self.tensors, self.random = {}, np.random.default_rng(0)

    def tensor(self, name, *shape, mean=0.0, deviation=0.1):
        if name not in self.tensors:
            drawn = mean + deviation * self.random.standard_normal(shape)
            self.tensors[name] = torch.from_numpy(drawn.astype(np.float32))
        return self.tensors[name]

    def unit(self, x, name, out, kernel, stride=1, padding=0):
        h, w = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        inputs = x.shape[1]
        of = (out, inputs, h, w)
        weight = self.tensor(f"{name}.conv.weight", *of, deviation=(2 / (inputs * h * w)) ** 0.5)
        x = torch.conv2d(x, weight, stride=stride, padding=padding)
        scale, bias = self.tensor(f"{name}.bn.weight", out, mean=1.0), self.tensor(f"{name}.bn.bias", out)
        mean = self.tensor(f"{name}.bn.running_mean", out)
        variance = self.tensor(f"{name}.bn.running_var", out, mean=1.0)
        self.tensors[f"{name}.bn.num_batches_tracked"] = torch.tensor(0)
        return torch.relu(torch.nn.functional.batch_norm(x, mean, variance, scale, bias, eps=1e-3))

    def chain(self, x, block, *units):
        for name, out, kernel, *how in units:
            x = self.unit(x, f"{block}.{name}", out, kernel, *how)
        return x

    def pooled(self, x, block, out, average=True):
        pools = torch.nn.functional
        x = pools.avg_pool2d(x, 3, 1, 1, count_include_pad=False) if average else pools.max_pool2d(x, 3, 1, 1)
        return self.unit(x, f"{block}.branch_pool", out, 1)

    def at_35(self, x, block, pooled):
        one = self.chain(x, block, ("branch1x1", 64, 1))
        five = self.chain(x, block, ("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5, 1, 2))
        first = self.chain(x, block, ("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3, 1, 1))
        double = self.chain(first, block, ("branch3x3dbl_3", 96, 3, 1, 1))
        return torch.cat([one, five, double, self.pooled(x, block, pooled)], 1)

    def to_17(self, x, block):
        three = self.chain(x, block, ("branch3x3", 384, 3, 2))
        first = self.chain(x, block, ("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3, 1, 1))
        double = self.chain(first, block, ("branch3x3dbl_3", 96, 3, 2))
        return torch.cat([three, double, torch.nn.functional.max_pool2d(x, 3, 2)], 1)

    def at_17(self, x, block, c):
        down, across = ((7, 1), 1, (3, 0)), ((1, 7), 1, (0, 3))
        one = self.chain(x, block, ("branch1x1", 192, 1))
        first = self.chain(x, block, ("branch7x7_1", c, 1), ("branch7x7_2", c, *across))
        seven = self.chain(first, block, ("branch7x7_3", 192, *down))
        first = self.chain(x, block, ("branch7x7dbl_1", c, 1), ("branch7x7dbl_2", c, *down))
        first = self.chain(first, block, ("branch7x7dbl_3", c, *across), ("branch7x7dbl_4", c, *down))
        double = self.chain(first, block, ("branch7x7dbl_5", 192, *across))
        return torch.cat([one, seven, double, self.pooled(x, block, 192)], 1)

    def to_8(self, x, block):
        three = self.chain(x, block, ("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2))
        first = self.chain(x, block, ("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7), 1, (0, 3)))
        seven = self.chain(
            first, block, ("branch7x7x3_3", 192, (7, 1), 1, (3, 0)), ("branch7x7x3_4", 192, 3, 2)
        )
        return torch.cat([three, seven, torch.nn.functional.max_pool2d(x, 3, 2)], 1)

    def at_8(self, x, block, average):
        across, down = (384, (1, 3), 1, (0, 1)), (384, (3, 1), 1, (1, 0))
        one = self.chain(x, block, ("branch1x1", 320, 1))
        first = self.chain(x, block, ("branch3x3_1", 384, 1))
        second = self.chain(x, block, ("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3, 1, 1))
        parts = [
            self.chain(first, block, (f"branch3x3_2{i}", *how))
            for i, how in zip("ab", (across, down), strict=True)
        ]
        parts += [
            self.chain(second, block, (f"branch3x3dbl_3{i}", *how))
            for i, how in zip("ab", (across, down), strict=True)
        ]
        return torch.cat([one, *parts, self.pooled(x, block, 192, average)], 1)

    def __call__(self, images):
        """Features and logits of images (b, 3, 299, 299)."""
        x = self.unit((images - 128) / 128, "Conv2d_1a_3x3", 32, 3, 2)
        x = self.unit(self.unit(x, "Conv2d_2a_3x3", 32, 3), "Conv2d_2b_3x3", 64, 3, 1, 1)
        x = torch.nn.functional.max_pool2d(x, 3, 2)
        x = self.unit(self.unit(x, "Conv2d_3b_1x1", 80, 1), "Conv2d_4a_3x3", 192, 3)
        x = torch.nn.functional.max_pool2d(x, 3, 2)
        for block, pooled in (("5b", 32), ("5c", 64), ("5d", 64)):
            x = self.at_35(x, f"Mixed_{block}", pooled)
        x = self.to_17(x, "Mixed_6a")
        for block, c in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            x = self.at_17(x, f"Mixed_{block}", c)
        x = self.at_8(self.to_8(x, "Mixed_7a"), "Mixed_7b", True)
        x = self.at_8(x, "Mixed_7c", False).mean((2, 3))
        weight, bias = (
            self.tensor("fc.weight", 1008, 2048, deviation=2048**-0.5),
            self.tensor("fc.bias", 1008),
        )
        return x.numpy(), torch.nn.functional.linear(x, weight, bias).numpy()


def interpolated(images):
    """At 299 x 299, linearly along each axis between corners, whose places TensorFlow computes in float32."""
    x = images.astype(np.float64)
    for axis in (1, 2):
        n = x.shape[axis]
        places = np.arange(299, dtype=np.float32) * np.float32(n / 299)
        x = np.apply_along_axis(lambda v: np.interp(places, np.arange(len(v)), v), axis, x)  # noqa: B023
    return x


@pytest.mark.parametrize("shape", [(32, 24), (299, 400)])
def test_images_are_resized_between_their_corners(shape):
    images = np.random.default_rng(0).uniform(0, 255, (1, *shape, 1)).astype(np.float32)
    assert_close(np.asarray(resized(jax.device_put(images))), interpolated(images), 1e-4)


@pytest.mark.requirement("R55")
def test_features_and_logits_are_those_of_torch(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (1, 40, 56, 3), np.uint8)
    graph = Graph()
    with torch.no_grad():
        features, logits = graph(
            torch.from_numpy(interpolated(images).astype(np.float32)).permute(0, 3, 1, 2)
        )
    safetensors.save_file(graph.tensors, tmp_path / "model.safetensors")
    network, head = extractors.load(tmp_path).images, inception.load_head(tmp_path)
    assert network.name == "Inception-v3"
    found = network(images)
    assert_close(found, features, 1e-4)
    assert_close(head(found), logits, 1e-4)
    assert_close(head(found, bias=False), logits - graph.tensors["fc.bias"].numpy(), 1e-4)
    assert features.std() > 0.1
    assert len(graph.tensors) == 6 * 94 + 2


def test_another_network_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no weights"):
        extractors.load(tmp_path)
    safetensors.save_file({"features.0.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"no tensor 'Conv2d_1a_3x3\.bn\.bias', which the network requires"):
        extractors.load(tmp_path)
