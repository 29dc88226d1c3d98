"""MNIST by what people use in PyTorch: the recipes of `others.py`. Needs the extra `reference`.

    lab         the network, with its batch norm, and the recipe of the course's third lab: 1.2 M parameters,
                batches of 250, Adam at 1e-3 from the first step, a tenth of the labels null; its images are
                padded to 32 x 32 here, which it resizes
    torchcfm    its example of conditional MNIST: U-Net of 1.1 M parameters, batches of 128, Adam at 1e-3,
                without a null class, so that only w = 1 is possible

Both match the velocity of the straight path, as the preset `mnist` does.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from experiments.benchmarks.recipes import BLOCK, CLASSES, Images, Labels, cores
from experiments.benchmarks.torch_unet import TorchUNet


class Torch:
    """A module (x, t, y) of velocities.

    Args:
        make: makes it; the last of its labels is null if any are dropped.
        side: of the padded images.
        batch: images of a step.
        dropout: share of the labels that are replaced by null.
        seed: of its parameters, its training and its images.
    """

    def __init__(self, make: Callable[[], torch.nn.Module], side: int, batch: int, dropout: float, seed: int):
        torch.manual_seed(seed)
        torch.set_num_threads(cores())
        self._network, self._side, self._dropout = make(), side, dropout
        self.batch, self.guided, self.by = batch, dropout > 0, f"PyTorch {torch.__version__}"
        self.size = sum(parameter.numel() for parameter in self._network.parameters())

    def training(self, images: Images, y: Labels) -> Callable[[], float]:
        """A step of flow matching on these data."""
        data = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
        data = torch.nn.functional.pad(data, 4 * [self._border()], value=-1.0)
        classes = torch.from_numpy(y.astype(np.int64))
        optimizer = torch.optim.Adam(self._network.parameters(), lr=1e-3)
        order = torch.randperm(0)
        self._network.train()

        def step() -> float:
            nonlocal order
            if len(order) < self.batch:
                order = torch.randperm(len(data))
            chosen, order = order[: self.batch], order[self.batch :]
            z, label = data[chosen], classes[chosen]
            label = torch.where(torch.rand(len(label)) < self._dropout, CLASSES, label)
            noise, t = torch.randn_like(z), torch.rand(len(z))
            at = t[:, None, None, None]
            loss = (self._network(at * z + (1 - at) * noise, t, label) - (z - noise)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    @torch.inference_mode()
    def sample(self, labels: Labels, w: float, steps: int) -> Images:
        """Images of these classes by Heun's method."""
        self._network.eval()
        parts = []
        for y in torch.from_numpy(labels.astype(np.int64)).split(BLOCK):
            x = torch.randn(len(y), 1, self._side, self._side)
            for i in range(steps):
                slope = self._velocity(x, i / steps, y, w)
                ahead = self._velocity(x + slope / steps, (i + 1) / steps, y, w)
                x = x + (slope + ahead) / (2 * steps)
            parts.append(x)
        inner = slice(self._border(), self._side - self._border())
        pixels = (torch.cat(parts)[:, :, inner, inner].clamp(-1, 1) + 1) * 127.5
        return pixels.round().byte().permute(0, 2, 3, 1).numpy()

    def _velocity(self, x: torch.Tensor, t: float, y: torch.Tensor, w: float) -> torch.Tensor:
        """(1 - w) u(x) + w u(x | y)."""
        times = torch.full((len(x),), t)
        conditional = self._network(x, times, y)
        if w == 1:
            return conditional
        return (1 - w) * self._network(x, times, torch.full_like(y, CLASSES)) + w * conditional

    def _border(self) -> int:
        return (self._side - 28) // 2


def _of_torchcfm() -> torch.nn.Module:
    try:
        from torchcfm.models.unet import UNetModel
    except ImportError as error:
        raise ValueError(f"torchcfm needs {error.name}: pip install --no-deps torchcfm pot") from None

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = {"dim": (1, 28, 28), "num_channels": 32, "num_res_blocks": 1}
            self.network = UNetModel(**sizes, num_classes=CLASSES, class_cond=True)

        def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.network(t, x, y)

    return Network()


RECIPES = {
    "lab": partial(Torch, partial(TorchUNet, torch.nn.BatchNorm2d), 32, 250, 0.1),
    "torchcfm": partial(Torch, _of_torchcfm, 28, 128, 0.0),
}
