"""Batches whose noise is paired with their data by an experiment's coupling.

The pairing is part of the input: it sees whole batches, whatever the devices, the processes and the number of
micro-batches, and needs no callback from a compiled step. Batch n remains a function of (seed, n).
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxflow import couplings, per_example
from jaxflow.data.batches import Batch
from jaxflow.devices import mesh
from jaxflow.runs.run import Run

STREAM = 2**31
"""Of the random keys of this noise among those of a seed."""


def coupled(run: Run, batches: Iterator[Batch], start: int, sharding: NamedSharding) -> Iterator[Batch]:
    """Batches, from number `start`, with the `noise` of each example; as they were if it is independent.

    Of latents that are drawn in each step, the means are paired.

    Args:
        run: whose noise it is.
        batches: from number `start` on.
        start: number of the first batch, for resuming.
        sharding: of the examples.
    """
    coupling, space = run.experiment.coupling, run.space
    if coupling == "independent":
        return batches
    by_class = coupling == "optimal_transport_by_class"
    key = jax.random.fold_in(jax.random.key(run.experiment.seed), STREAM)

    def draw(number: jax.Array, n: Any) -> jax.Array:
        keys = per_example.numbered(jax.random.fold_in(key, n), number)
        return per_example.normal(keys, space.event_shape)

    @partial(jax.jit, out_shardings=mesh.replicated(sharding))
    def compare(batch: Batch, n: Any) -> Any:
        costs = couplings.costs(draw(batch["number"], n), space.events(batch[space.entry]))
        return costs, batch["y"] if by_class else None

    paired = jax.jit(draw, out_shardings=sharding)

    def compared() -> Iterator[Any]:
        for n, batch in enumerate(batches, start):
            yield n, batch, compare(batch, np.uint32(n))

    def with_noise() -> Iterator[Batch]:
        # The costs of the next batch are on their way before the step of this one, and do not wait for it.
        for (n, batch, on_devices), _ in pairwise(compared()):
            costs, classes = jax.tree.map(np.asarray, on_devices)
            size = len(costs)
            rows = mesh.rows_here(sharding, size)
            chosen = couplings.optimal(costs, classes)[rows].astype(np.int32)
            number = mesh.distribute(chosen, sharding, size, rows)
            yield batch | {"noise": paired(number, np.uint32(n))}

    return with_noise()
