"""The U-Net of the course's third lab in PyTorch, as `jaxflow.nn.lab_unet`. Needs the extra `reference`."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn as torch_nn


class TorchAdapter(torch_nn.Module):
    """Two layers with a SiLU in between, added to every pixel of an image."""

    def __init__(self, channels: int):
        super().__init__()
        self.hidden, self.out = torch_nn.Linear(40, 40), torch_nn.Linear(40, channels)

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        """(b, 40) -> (b, channels, 1, 1)."""
        return self.out(torch_nn.functional.silu(self.hidden(vector)))[:, :, None, None]


class TorchLayer(torch_nn.Module):
    """A residual layer."""

    def __init__(self, channels: int, norm: Callable[[int], torch_nn.Module]):
        super().__init__()
        self.conv1, self.conv2 = (torch_nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = norm(channels), norm(channels)
        self.time, self.condition = TorchAdapter(channels), TorchAdapter(channels)

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(b, channels, h, w) -> the same shape."""
        silu = torch_nn.functional.silu
        h = self.conv1(self.norm1(silu(x))) + self.time(t) + self.condition(y)
        return x + self.conv2(self.norm2(silu(h)))


def group_norm(channels: int) -> torch_nn.GroupNorm:
    """The norm of jaxflow's U-Nets: groups of 16 channels."""
    return torch_nn.GroupNorm(channels // 16, channels, eps=1e-6)


class TorchUNet(torch_nn.Module):
    """The network of `jaxflow.nn.lab_unet`, with the same names.

    Args:
        norm: of so many channels; `BatchNorm2d` makes it the lab's own.
    """

    def __init__(self, norm: Callable[[int], torch_nn.Module] = group_norm) -> None:
        super().__init__()
        self.w = torch_nn.Parameter(torch.randn(20))
        self.encode = torch_nn.Embedding(11, 40)
        self.first, self.norm = torch_nn.Conv2d(1, 32, 3, padding=1), norm(32)
        for name, channels in {
            "encoder_0": 32,
            "encoder_1": 64,
            "midcoder": 128,
            "decoder_1": 64,
            "decoder_0": 32,
        }.items():
            for i in range(2):
                self.add_module(f"{name}_{i}", TorchLayer(channels, norm))
        for i, (high, low) in enumerate(((32, 64), (64, 128))):
            self.add_module(f"up_{i}", torch_nn.Conv2d(low, high, 3, padding=1))
            self.add_module(f"down_{i}", torch_nn.Conv2d(high, low, 3, stride=2))
        self.last = torch_nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(b, 1, 32, 32), (b,), (b,) -> (b, 1, 32, 32)."""
        angles = 2 * np.pi * t[:, None] * self.w
        time, label = 2**0.5 * torch.cat([angles.sin(), angles.cos()], dim=1), self.encode(y)
        parts = dict(self.named_children())

        def layers(name: str, h: torch.Tensor) -> torch.Tensor:
            return parts[f"{name}_1"](parts[f"{name}_0"](h, time, label), time, label)

        h, skips = torch_nn.functional.silu(self.norm(self.first(x))), []
        for i in range(2):
            # XLA's "SAME" puts the one row and column of zeros that stride 2 needs at the end.
            h = parts[f"down_{i}"](torch_nn.functional.pad(layers(f"encoder_{i}", h), (0, 1, 0, 1)))
            skips.append(h)
        h = layers("midcoder", h)
        for i in (1, 0):
            h = torch_nn.functional.interpolate(h + skips.pop(), scale_factor=2, mode="bilinear")
            h = layers(f"decoder_{i}", parts[f"up_{i}"](h))
        return self.last(h)
