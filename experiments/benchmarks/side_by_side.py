"""A network of jaxflow and its twin in PyTorch: same parameters, same outputs, and alternating timings."""

from collections.abc import Callable
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from experiments.benchmarks.timing import Times, in_turn
from jaxflow.devices import compiler


def compare(
    network: linen.Module,
    params: Any,
    model: torch.nn.Module,
    copy: Callable[[Any], None],
    shape: tuple[int, int, int],
    batch: int,
    repeats: int,
) -> None:
    """Check that the twins agree, then time a training step and a forward pass of each, alternating.

    Args:
        network: (x, t, y) of images (b, h, w, c) and classes 0 to 9.
        params: its parameters.
        model: the twin.
        copy: copies the parameters into the twin.
        shape: of an image.
        batch: images in a step.
        repeats: timed steps.
    """
    rng = np.random.default_rng(0)
    data, noise = (rng.standard_normal((batch, *shape), np.float32) for _ in range(2))
    t, y = rng.uniform(size=batch).astype(np.float32), rng.integers(0, 10, batch).astype(np.int32)
    moved = jax.tree.map(lambda leaf: leaf + 0.02 * rng.standard_normal(leaf.shape, np.float32), params)
    copy(moved)
    agree(network, moved, model, (data, t, y))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(f"{count:,} parameters; JAX {jax.__version__}, PyTorch {torch.__version__}, batch {batch}")
    ours, theirs = jax_steps(network, moved, data, noise, t, y), torch_steps(model, data, noise, t, y)
    for name in ours:
        report(name, in_turn({"jaxflow": ours[name], "PyTorch": theirs[name]}, repeats))


def report(name: str, times: dict[str, Times]) -> None:
    """Print the times of one kind of step, and the speed of jaxflow relative to the fastest other."""
    for who, (least, median) in times.items():
        print(f"{name:10}{who:24}{least:>9.1f} ms, median {median:>9.1f} ms")
    own, others = times["jaxflow"], [time for who, time in times.items() if who != "jaxflow"]
    least, median = (min(other[i] for other in others) / own[i] for i in (0, 1))
    print(f"{name:10}{'PyTorch / jaxflow':24}{least:>9.2f}   , of medians {median:>6.2f}")


def agree(network: linen.Module, params: Any, model: torch.nn.Module, inputs: tuple[np.ndarray, ...]) -> None:
    """Raise an AssertionError if the twins differ by more than 1e-4."""
    x, t, y = (array[:4] for array in inputs)
    own = np.asarray(jax.jit(network.apply)({"params": params}, x, t, y))
    with torch.no_grad():
        other = model(torch.tensor(x), torch.tensor(t), torch.tensor(y)).numpy()
    assert np.abs(own).max() > 1e-3, "the networks output zeros"
    assert np.abs(own - other).max() < 1e-4 * (1 + np.abs(own).max()), np.abs(own - other).max()


def jax_steps(network, params, data, noise, t, y) -> dict[str, Callable[[], None]]:
    """Training step and forward pass of jaxflow, each blocking until it is done."""
    data, noise, t, y = map(jnp.asarray, (data, noise, t, y))
    optimizer = optax.adamw(1e-4)

    def loss(params):
        s = t[:, None, None, None]
        out = network.apply({"params": params}, s * data + (1 - s) * noise, t, y)
        return jnp.mean((out - (data - noise)) ** 2)

    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1), compiler_options=compiler.options())
    call = jax.jit(network.apply)
    carry = [jax.tree.map(jnp.copy, params), optimizer.init(params)]

    def train():
        carry[:] = jax.block_until_ready(compiled(*carry))

    return {
        "training": train,
        "sampling": lambda: jax.block_until_ready(call({"params": params}, data, t, y)),
    }


def torch_steps(model, data, noise, t, y) -> dict[str, Callable[[], None]]:
    """Training step and forward pass of PyTorch."""
    data, noise, t, y = map(torch.tensor, (data, noise, t, y))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4, fused=True)

    def train():
        s = t[:, None, None, None]
        optimizer.zero_grad(set_to_none=True)
        out = model(s * data + (1 - s) * noise, t, y)
        torch.mean((out - (data - noise)) ** 2).backward()
        optimizer.step()

    def call():
        with torch.inference_mode():
            model(data, t, y)

    return {"training": train, "sampling": call}
