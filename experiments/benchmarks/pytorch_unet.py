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

from experiments.benchmarks.side_by_side import in_turn, report
from experiments.benchmarks.torch_unet import TorchUNet
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
