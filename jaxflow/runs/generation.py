"""Guided images from a trained run, in blocks of one size so that a compilation serves them all."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from jaxflow.runs.configuration import Experiment
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import Sampler
from jaxflow import guidance, per_example, sampling
from jaxflow.devices.blocks import in_blocks
from jaxflow.data.images import to_uint8
from jaxflow.training.step import Params

Generator = Callable[[Params, Any, float], np.ndarray]
"""(parameters, conditions of n images, w) -> uint8 images (n, h, w, c)."""
Images = Callable[[Any, float], np.ndarray]
"""The same, of given parameters."""
BLOCK = 256
"""Images that are made together."""
LARGEST = 1e38
"""Scale of guidance, as a float32."""


def generator(
    run: Run,
    sharding: NamedSharding,
    *,
    sampler: Sampler,
    seed: int,
    negative: Any = None,
) -> Generator:
    """Images of given conditions at a guidance scale; image i starts from the same noise for every w.

    Args:
        run: the run that was trained.
        sharding: of the images, over devices.
        sampler: solver and grid.
        seed: of the noise.
        negative: what guidance leads away from, for one image; null if left out.
    """
    grid, method = sampler.times(run.experiment), sampler.method(run.experiment)
    away = run.null if negative is None else negative

    def make(params, numbers, y, w):
        noise = per_example.normal(per_example.numbered(jax.random.key(seed), numbers), run.image_shape)
        velocity = guidance.classifier_free(run.field(params), y, away, w)
        images = sampling.sample_ode(velocity, noise, grid, solver=method)
        return to_uint8(images), jnp.all(jnp.isfinite(images), axis=(1, 2, 3))

    # One program for every w; w = 0 and w = 1, known before tracing, need half the calls of the network.
    programs = {w: jax.jit(partial(make, w=w)) for w in (0.0, 1.0)}
    of_any_scale = jax.jit(make)

    def generate(params: Params, y: Any, w: float) -> np.ndarray:
        numbers = np.arange(len(jax.tree.leaves(y)[0]))
        program = programs.get(w) or partial(of_any_scale, w=np.float32(w))
        images, finite = in_blocks(
            lambda block: program(params, *block),
            (numbers, y),
            size=BLOCK,
            sharding=sharding,
            name=f"sample w = {w:g}",
        )
        if not finite.all():
            raise FloatingPointError(f"w = {w:g}: the images are not finite; more --steps or a smaller w")
        return images

    return generate


def check(experiment: Experiment, scales: Sequence[float], sampler: Sampler, per_label: int) -> None:
    """Raise a ValueError that names the first unusable argument."""
    eta = experiment.condition_dropout
    for w in scales:
        if not abs(w) < LARGEST:
            raise ValueError(f"w = {w}: the guidance scale must be finite, less than {LARGEST:g}")
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
    sampler.check(experiment)
