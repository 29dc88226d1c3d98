"""The U-Net of the course's third lab, side by side with the same network in PyTorch.

    python -m experiments.benchmarks.pytorch_unet [--batch 64] [--threads 2] [--profile]

Both compute in float32 on the same cores, alternating in one process:

    training    flow matching loss, its gradient, Adam
    sampling    one call of the network

Needs the extra `reference`. PyTorch runs in channels-first and channels-last layout; ratios are to the
faster. Before anything is timed, jaxflow's parameters are copied into PyTorch's network, and the outputs must
agree.
"""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import tyro
from torch import nn as torch_nn

from experiments.benchmarks.side_by_side import in_turn, report
from jaxflow import losses, nn, paths
from jaxflow.devices import compiler
from jaxflow.nn.lab_unet import LabUNet

PARAMETERS = 1_233_325


@dataclass(frozen=True)
class Arguments:
    """Command line of the benchmark."""

    batch: int = 64
    """Images of a step; MNIST at 32 x 32."""
    threads: int = 2
    """Cores for each of the two."""
    repeats: int = 10
    """Of each measurement."""
    profile: bool = False
    """Print where jaxflow's training step spends its time."""


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.pytorch_unet")
    # Before the first computation, since XLA has a thread for each core that the process may use.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    torch.set_num_threads(arguments.threads)

    params = initial_params()
    networks = {"channels first": TorchUNet(), "channels last": TorchUNet()}
    networks["channels last"].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for network in networks.values():
        copy_parameters(params, network)
        check_same(params, network)

    data = np.random.default_rng(0).normal(size=(arguments.batch, 32, 32, 1)).astype(np.float32)
    y = np.arange(arguments.batch) % 10
    (program, inputs), sample = jax_steps(params, data, y)
    train = lambda: jax.block_until_ready(program(*inputs))  # noqa: E731
    steps = {"training": {"jaxflow": train}, "sampling": {"jaxflow": sample}}
    for name, network in networks.items():
        layout = torch.channels_last if name == "channels last" else torch.contiguous_format
        for kind, call in zip(steps, torch_steps(network, data, y, layout), strict=True):
            steps[kind][f"PyTorch, {name}"] = call

    print(f"JAX {jax.__version__}, PyTorch {torch.__version__}, {arguments.threads} threads", end="")
    print(f", batch {arguments.batch} of 32 x 32 x 1, {PARAMETERS:,} parameters, float32")
    for name, calls in steps.items():
        report(name, in_turn(calls, arguments.repeats))
    if arguments.profile:
        profile(program, inputs)


NETWORK = LabUNet(nn.ClassTable(10))


def initial_params() -> Any:
    """Parameters of the network in jaxflow."""
    x, t, y = jnp.zeros((1, 32, 32, 1)), jnp.zeros(1), jnp.zeros(1, jnp.int32)
    params = jax.jit(NETWORK.init)(jax.random.key(0), x, t, y)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS
    return params


def jax_steps(params: Any, data: np.ndarray, y: np.ndarray) -> tuple[tuple[Any, tuple], Callable]:
    """A compiled training step of jaxflow with its arguments, and a sampling step without any."""
    optimizer = optax.adam(1e-3)
    images, classes = jnp.asarray(data), jnp.asarray(y, jnp.int32)

    def loss(params: Any, key: jax.Array) -> jax.Array:
        def field(x: jax.Array, t: jax.Array, y: Any) -> Any:
            return NETWORK.apply({"params": params}, x, t, y)

        return jnp.mean(losses.flow_matching(key, field, paths.Linear(), images, classes))

    def step(params: Any, state: Any, key: jax.Array) -> tuple[Any, Any]:
        gradient = jax.grad(loss)(params, key)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    inputs = (params, optimizer.init(params), jax.random.key(1))
    network, t = jax.jit(NETWORK.apply), jnp.linspace(0.0, 1.0, len(data))
    sample = lambda: jax.block_until_ready(network({"params": params}, images, t, classes))  # noqa: E731
    program = jax.jit(step, compiler_options=compiler.options()).lower(*inputs).compile()
    return (program, inputs), sample


def profile(program: Any, inputs: tuple) -> None:
    """Print where one call spends its time: the time of its operations, over all threads, by kind."""
    text = program.as_text()
    origins = dict(re.findall(r'%?([\w.\-]+) = [^\n]*?metadata=\{[^}]*?op_name="([^"]*)"', text))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(program(*inputs))
        file = next(Path(folder).rglob("*.xplane.pb"))
        planes = jax.profiler.ProfileData.from_file(str(file)).planes
        events = [event for plane in planes for line in plane.lines for event in line.events]
    kinds: Counter[str] = Counter()
    for event in events:
        # The time of a loop is that of its operations, which are separate events.
        if event.name in origins and not event.name.startswith(("while", "call", "conditional")):
            kinds[kind_of(origins[event.name])] += event.duration_ns / 1e6
    for kind, milliseconds in kinds.most_common():
        print(f"{kind:42}{milliseconds:>9.1f} ms{milliseconds / kinds.total():>8.0%}")


def kind_of(origin: str) -> str:
    """What an operation is part of, by the path of names that led to it."""
    if "while/body" in origin:
        return "convolutions: gradient of the kernel"
    direction = "backward" if "transpose(jvp" in origin else "forward"
    if "conv_general_dilated" in origin:
        return f"convolutions: {'gradient of the image' if direction == 'backward' else 'forward'}"
    for name in ("norm", "silu", "resize"):
        if name in origin:
            return f"{name}, {direction}"
    return f"everything else, {direction}"


def torch_steps(
    network: "TorchUNet", data: np.ndarray, y: np.ndarray, layout: torch.memory_format
) -> tuple[Callable, Callable]:
    """The same two steps of PyTorch."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    images = torch.from_numpy(data).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    classes, times = torch.from_numpy(y), torch.linspace(0, 1, len(data))

    def train() -> None:
        noise, t = torch.randn_like(images), torch.rand(len(images))
        x = t[:, None, None, None] * images + (1 - t[:, None, None, None]) * noise
        loss = ((network(x, t, classes) - (images - noise)) ** 2).sum((1, 2, 3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def sample() -> None:
        with torch.inference_mode():
            network(images, times, classes)

    return train, sample


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

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.conv2 = (torch_nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = group_norm(channels), group_norm(channels)
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
    """The network of `jaxflow.nn.lab_unet`, with the same names."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch_nn.Parameter(torch.zeros(20))
        self.encode = torch_nn.Embedding(11, 40)
        self.first, self.norm = torch_nn.Conv2d(1, 32, 3, padding=1), group_norm(32)
        for name, channels in {
            "encoder_0": 32,
            "encoder_1": 64,
            "midcoder": 128,
            "decoder_1": 64,
            "decoder_0": 32,
        }.items():
            for i in range(2):
                self.add_module(f"{name}_{i}", TorchLayer(channels))
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


def copy_parameters(params: Any, network: TorchUNet) -> None:
    """Copy jaxflow's parameters into PyTorch's network."""
    state = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        *parts, kind = (entry.key for entry in path)
        value = torch.from_numpy(np.array(leaf))
        if kind == "kernel":
            value = value.permute(3, 2, 0, 1) if value.ndim == 4 else value.T
        renamed = {"kernel": "weight", "scale": "weight", "embedding": "weight"}.get(kind, kind)
        module = [part for part in parts if part != "table" and kind != "w"]
        state[".".join([*module, renamed])] = value.contiguous()
    network.load_state_dict(state)  # strict: the parameters correspond one to one


def check_same(params: Any, network: TorchUNet) -> None:
    """Raise an AssertionError unless both networks have the same output."""
    x = np.random.default_rng(1).normal(size=(3, 32, 32, 1)).astype(np.float32)
    t, y = np.array([0.0, 0.3, 1.0], np.float32), np.array([0, 7, 10])
    expected = jax.jit(NETWORK.apply)({"params": params}, x, t, jnp.asarray(y, jnp.int32))
    images = torch.from_numpy(x).permute(0, 3, 1, 2)
    with torch.inference_mode():
        actual = network(images, torch.from_numpy(t), torch.from_numpy(y)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-4, rtol=1e-4)


if __name__ == "__main__":
    main()
