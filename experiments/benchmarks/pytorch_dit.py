"""A diffusion transformer against PyTorch: the same function, batch and precision, with alternating steps.

    python -m experiments.benchmarks.pytorch_dit [--batch 128] [--repeats 15]

Prints milliseconds of a training step (flow matching, AdamW) and of a sampling step (one call), the least
and the median of `repeats`, and PyTorch's time over jaxflow's: above 1, jaxflow is faster.
Needs the extra `reference`. PyTorch runs eagerly, with its fused attention and fused AdamW.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import tyro
from torch import nn as tnn
from torch.nn import functional as F  # noqa: N812

from experiments.benchmarks.side_by_side import compare
from jaxflow import nn
from jaxflow.nn.embeddings import grid_positions


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    batch: int = 128
    size: int = 16
    """Side of the image; a patch is 2 x 2."""
    width: int = 256
    depth: int = 6
    heads: int = 4
    repeats: int = 15


class Attention(tnn.Module):
    """Multi-head self-attention by PyTorch's fused kernel."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = tnn.Linear(width, 3 * width), tnn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n, c) -> (b, n, c)."""
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class Block(tnn.Module):
    """adaLN-Zero block."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.modulation = tnn.Linear(width, 6 * width)
        self.attention = Attention(width, heads)
        self.up, self.down = tnn.Linear(width, 4 * width), tnn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """(b, n, c), (b, c) -> (b, n, c)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(e))[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.attention(_norm(x) * (1 + scale1) + shift1)
        h = F.gelu(self.up(_norm(x) * (1 + scale2) + shift2), approximate="tanh")
        return x + gate2 * self.down(h)


class DiT(tnn.Module):
    """The network of `jaxflow.nn.DiT` with sinusoidal positions and 128 sinusoids of t, on (b, h, w, c)."""

    def __init__(
        self, width: int, depth: int, heads: int, channels: int, classes: int, positions: torch.Tensor
    ):
        super().__init__()
        self.time = tnn.Sequential(tnn.Linear(128, width), tnn.SiLU(), tnn.Linear(width, width))
        self.table = tnn.Embedding(classes + 1, width)
        self.first = tnn.Linear(4 * channels, width)
        self.blocks = tnn.ModuleList(Block(width, heads) for _ in range(depth))
        self.modulation, self.last = tnn.Linear(width, 2 * width), tnn.Linear(width, 4 * channels)
        self.positions = tnn.Buffer(positions)
        self.frequencies = tnn.Buffer(torch.exp(-math.log(1e4) * torch.arange(64) / 64))

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(b, h, w, c), (b,), (b,) -> (b, h, w, c)."""
        b, h, w, c = x.shape
        angles = 1000 * t[:, None] * self.frequencies
        e = self.time(torch.cat([angles.cos(), angles.sin()], dim=-1)) + self.table(y)
        patches = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(2, 3).reshape(b, -1, 4 * c)
        tokens = self.first(patches) + self.positions
        for block in self.blocks:
            tokens = block(tokens, e)
        shift, scale = self.modulation(F.silu(e))[:, None].chunk(2, dim=-1)
        out = self.last(_norm(tokens) * (1 + scale) + shift)
        return out.reshape(b, h // 2, w // 2, 2, 2, c).transpose(2, 3).reshape(b, h, w, c)


def _norm(x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def layers(model: Any, params: Any) -> Iterator[tuple[tnn.Linear, list[dict[str, Any]]]]:
    """Each linear layer of PyTorch with its counterparts in jaxflow."""
    yield model.time[0], [params["time_embedding"]["hidden"]]
    yield model.time[2], [params["time_embedding"]["out"]]
    yield model.first, [params["patch_embedding"]]
    for i, block in enumerate(model.blocks):
        own = params[f"block_{i}"]
        yield block.modulation, [own["modulation"]["linear"]]
        yield block.attention.qkv, [own["attention"][name] for name in ("query", "key", "value")]
        yield block.attention.out, [own["attention"]["out"]]
        yield block.up, [own["mlp"]["up"]]
        yield block.down, [own["mlp"]["down"]]
    yield model.modulation, [params["final_modulation"]["linear"]]
    yield model.last, [params["final"]]


@torch.no_grad()
def copy(model: DiT, params: Any) -> None:
    """Copy jaxflow's parameters into PyTorch's network."""
    model.table.weight.copy_(torch.tensor(np.asarray(params["encode"]["table"]["embedding"])))
    for linear, parts in layers(model, params):
        kernel, bias = (np.concatenate([np.asarray(p[n]) for p in parts], -1) for n in ("kernel", "bias"))
        linear.weight.copy_(torch.tensor(kernel.T))
        linear.bias.copy_(torch.tensor(bias))


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.pytorch_dit")
    network = nn.DiT(encode=nn.ClassTable(10), width=a.width, depth=a.depth, heads=a.heads)
    shape = (a.size, a.size, 4)
    x, t, y = jnp.zeros((1, *shape)), jnp.zeros(1), jnp.zeros(1, jnp.int32)
    params = jax.jit(network.init)(jax.random.key(0), x, t, y)["params"]
    positions = grid_positions(a.size // 2, a.size // 2, a.width)
    model = DiT(a.width, a.depth, a.heads, 4, 10, torch.tensor(np.asarray(positions)))
    compare(network, params, model, lambda params: copy(model, params), shape, a.batch, a.repeats)


if __name__ == "__main__":
    main()
