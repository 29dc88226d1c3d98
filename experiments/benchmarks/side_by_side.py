"""A network of jaxflow and its twin in PyTorch: same parameters, same answers, and their times in turn."""

import time
from collections.abc import Callable
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch


def compare(
    network: linen.Module,
    params: Any,
    model: torch.nn.Module,
    copy: Callable[[Any], None],
    shape: tuple[int, int, int],
    batch: int,
    repeats: int,
) -> None:
    """Check that the twins agree, then time a training step and a call of each, in turn.

    Args:
        network: (x, t, y) of images (b, h, w, c) and classes 0 to 9.
        params: its parameters.
        model: the twin.
        copy: gives the twin its parameters.
        shape: of an image.
        batch: images in a step.
        repeats: steps that are timed.
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
        times = in_turn(ours[name], theirs[name], repeats)
        (least, median), (their_least, their_median) = times
        print(
            f"{name:9} jaxflow {least:7.1f} ms (median {median:.1f})   PyTorch {their_least:7.1f} ms"
            f" (median {their_median:.1f})   PyTorch / jaxflow {their_least / least:.2f}"
            f" (medians {their_median / median:.2f})"
        )


def agree(network: linen.Module, params: Any, model: torch.nn.Module, inputs: tuple[np.ndarray, ...]) -> None:
    """Raise an AssertionError where the twins differ by more than 1e-4."""
    x, t, y = (array[:4] for array in inputs)
    own = np.asarray(jax.jit(network.apply)({"params": params}, x, t, y))
    with torch.no_grad():
        other = model(torch.tensor(x), torch.tensor(t), torch.tensor(y)).numpy()
    assert np.abs(own).max() > 1e-3, "the networks give zeros"
    assert np.abs(own - other).max() < 1e-4 * (1 + np.abs(own).max()), np.abs(own - other).max()


def jax_steps(network, params, data, noise, t, y) -> dict[str, Callable[[], None]]:
    """Jaxflow's training step and call, each waiting for its end."""
    data, noise, t, y = map(jnp.asarray, (data, noise, t, y))
    optimizer = optax.adamw(1e-4)

    def loss(params):
        s = t[:, None, None, None]
        out = network.apply({"params": params}, s * data + (1 - s) * noise, t, y)
        return jnp.mean((out - (data - noise)) ** 2)

    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    compiled, call = jax.jit(step, donate_argnums=(0, 1)), jax.jit(network.apply)
    carry = [jax.tree.map(jnp.copy, params), optimizer.init(params)]

    def train():
        carry[:] = jax.block_until_ready(compiled(*carry))

    return {
        "training": train,
        "sampling": lambda: jax.block_until_ready(call({"params": params}, data, t, y)),
    }


def torch_steps(model, data, noise, t, y) -> dict[str, Callable[[], None]]:
    """PyTorch's training step and call."""
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


def in_turn(one: Callable[[], None], other: Callable[[], None], repeats: int) -> list[tuple[float, float]]:
    """Least and median milliseconds of each, measured in turn after two calls."""
    seconds: list[list[float]] = [[], []]
    for repeat in range(repeats + 2):
        for taken, step in zip(seconds, (one, other), strict=True):
            begin = time.perf_counter()
            step()
            if repeat > 1:
                taken.append(time.perf_counter() - begin)
    return [(1e3 * min(taken), 1e3 * float(np.median(taken))) for taken in seconds]
