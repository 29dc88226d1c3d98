"""Guided images from a trained run, in blocks of one size so that a compilation serves them all."""

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.experiment import Experiment
from experiments.runs import Run
from experiments.sampler import Sampler
from jaxflow import guidance, per_example, sampling
from jaxflow.data.images import to_uint8
from jaxflow.training.step import Params

Generator = Callable[[Any, float], np.ndarray]
"""(conditions of n images, w) -> uint8 images (n, h, w, c)."""


def generator(
    run: Run,
    params: Params,
    *,
    sampler: Sampler,
    seed: int,
    negative: Any = None,
    block: int = 256,
) -> Generator:
    """Images of given conditions at a guidance scale; image i starts from the same noise for every w.

    Args:
        run: the run that was trained.
        params: its parameters.
        sampler: solver and grid.
        seed: of the noise.
        negative: what guidance leads away from, for one image; null if left out.
        block: images that are made together.
    """
    grid, method = sampler.times(run.experiment), sampler.method(run.experiment)
    away = run.null if negative is None else negative

    def make(params, keys, y, w):
        noise = per_example.normal(keys, run.image_shape)
        velocity = guidance.classifier_free(run.field(params), y, away, w)
        images = sampling.sample_ode(velocity, noise, grid, solver=method)
        return to_uint8(images), jnp.all(jnp.isfinite(images))

    # One program for every w; w = 0 and w = 1, known before tracing, need half the calls of the network.
    programs = {w: jax.jit(partial(make, w=w)) for w in (0.0, 1.0)}
    of_any_scale = jax.jit(make)

    def generate(y: Any, w: float) -> np.ndarray:
        n = len(jax.tree.leaves(y)[0])
        size = min(block, n)
        whole = -(-n // size) * size
        filled = jax.tree.map(lambda leaf: np.resize(leaf, (whole, *leaf.shape[1:])), y)
        keys = per_example.keys(jax.random.key(seed), whole)
        program = programs.get(w) or partial(of_any_scale, w=jnp.float32(w))
        parts = []
        for start in tqdm(range(0, whole, size), desc=f"sample w = {w:g}", unit="block", leave=False):
            part = jax.tree.map(lambda leaf: leaf[start : start + size], (keys, filled))  # noqa: B023
            images, finite = program(params, *part)
            if not finite:
                raise FloatingPointError(f"w = {w:g}: the images are not finite; more --steps or a smaller w")
            parts.append(np.asarray(images))
        return np.concatenate(parts)[:n]

    return generate


def check(experiment: Experiment, scales: Sequence[float], sampler: Sampler, per_label: int) -> None:
    """Raise a ValueError that names the first unusable argument."""
    eta = experiment.condition_dropout
    for w in scales:
        if not isfinite(w):
            raise ValueError(f"w = {w}: the guidance scale must be finite")
        if eta == 0 and w != 1:
            raise ValueError(
                f"w = {w}: trained with condition_dropout = 0, the run has no unguided field; only w = 1"
            )
        if eta == 1 and w != 0:
            raise ValueError(
                f"w = {w}: trained with condition_dropout = 1, the run never saw a condition; only w = 0"
            )
    if per_label < 1:
        raise ValueError(f"per_label = {per_label}: at least 1 is needed")
    sampler.method(experiment)
    sampler.times(experiment)
