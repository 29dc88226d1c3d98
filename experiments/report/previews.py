"""Samples while a run goes on: from the same noise, of the same conditions, by the moving average."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from experiments.report.plots import guidance_grid, mosaic
from jaxflow.data.conditions import Classes, stack
from jaxflow.data.dataset import Dataset
from jaxflow.devices import processes
from jaxflow.devices.parallel import Mapping
from jaxflow.runs.generation import generator
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import Sampler
from jaxflow.training.step import Params

ROWS, COLUMNS = 10, 6
"""Conditions that are drawn, and images of each."""
SCALE = 2.0
"""Of guidance."""


class Previews:
    """A row of images for each of the first conditions, and one for null.

    Args:
        run: what is trained.
        mapping: on which devices.
        dataset: whose first captions are drawn, where it has captions.
        folder: of the pictures, `step=N.png`.
    """

    def __init__(self, run: Run, mapping: Mapping, dataset: Dataset, folder: Path):
        self._experiment, self._folder = run.experiment, folder
        # With a condition always dropped or never there is but one field.
        self._scale = {0.0: 1.0, 1.0: 0.0}.get(run.experiment.condition_dropout, SCALE)
        if isinstance(run.condition, Classes):
            self._names = [*run.condition.names[:ROWS]]
            conditions = [np.int32(label) for label in range(len(self._names))]
        else:
            examples = dataset.source.__getitems__(list(range(min(ROWS, len(dataset.source)))))
            self._names = [example["caption"] for example in examples]
            conditions = [run.condition.of(example) for example in examples]
        self._y = stack([y for y in (*conditions, run.null) for _ in range(COLUMNS)])
        self._generate = generator(run, mapping.examples, sampler=Sampler(), seed=run.experiment.seed)

    def are_due(self, n: int) -> bool:
        """Is there something to draw after step n?"""
        every = self._experiment.sample_every
        return every > 0 and (n % every == 0 or n == self._experiment.steps)

    def are_missing(self, n: int) -> bool:
        """Was a run stopped after step n, before it could draw? All processes get the same answer."""
        due = n > 0 and self.are_due(n)
        return due and bool(processes.of_first(not (self._folder / f"step={n}.png").exists()))

    def draw(self, n: int, params: Params) -> UInt8[np.ndarray, "h w *c"]:
        """Write the picture; what comes back are its images."""
        images = self._generate(params, self._y, self._scale)
        names = [*self._names, "null"]
        if processes.is_first():
            self._folder.mkdir(exist_ok=True)
            guidance_grid({self._scale: images}, names, self._folder / f"step={n}.png")
        return mosaic(images, len(names))
