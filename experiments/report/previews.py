"""Samples during training: from the same noise and conditions, with the moving average of the parameters."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from experiments.report.due import Due
from experiments.report.plots import guidance_grid, mosaic
from jaxflow.data.codecs import Classes
from jaxflow.data.dataset import Dataset
from jaxflow.devices import processes
from jaxflow.devices.parallel import Placement
from jaxflow.runs.fine_tuning import FineTuningRun
from jaxflow.runs.generation import Generator
from jaxflow.runs.maps import encoder_of
from jaxflow.runs.requests import ClassOrPrompt, request
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import JUMP, Sampler
from jaxflow.runs.settings import Setting
from jaxflow.training.step import Params

ROWS, COLUMNS = 10, 6
"""Conditions, and images of each."""
SCALE = 2.0
"""Of guidance; at most the largest inside a map."""
JUMPS = 2
"""Calls of a map."""


class Previews:
    """A row of images for each of the first conditions, and an unconditional one.

    Args:
        run: the run that is trained.
        placement: of the images on devices.
        dataset: its first captions are the prompts, if it has captions.
        out: folder of the figures, `step=N.png`.
    """

    def __init__(self, run: Run | FineTuningRun, placement: Placement, dataset: Dataset, out: Path):
        model = run.model(run.shapes) if isinstance(run, Run) else run.with_frozen
        experiment, codec = run.experiment, model.codec
        self._has_teacher = getattr(experiment, "distill", None) is not None
        self._due, self._seed = Due(experiment.sample_every, experiment.steps, out), experiment.seed
        # If the condition is always or never dropped, there is only one field.
        self._scale = {0.0: 1.0, 1.0: 0.0}.get(experiment.condition_dropout, SCALE)
        encoder, sampler = encoder_of(model.network), Sampler()
        if encoder is not None:
            self._scale, sampler = min(SCALE, encoder.most or 1.0), Sampler(JUMPS, JUMP)
        if isinstance(codec, Classes):
            self._names = [*codec.names[:ROWS]]
            conditions = [codec.encode(name) for name in self._names]
        else:
            examples = dataset.examples(range(min(ROWS, len(dataset))))
            self._names = [example["caption"] for example in examples]
            conditions = [codec.of(example) for example in examples]
        said: list[ClassOrPrompt] = [name for name in (*self._names, None) for _ in range(COLUMNS)]
        y = [condition for condition in (*conditions, codec.null) for _ in range(COLUMNS)]
        self._wanted = request(codec, said, y)
        self._generator = Generator(model, sampler, placement.examples)

    def are_due(self, n: int) -> bool:
        """Whether samples are due after step n."""
        return self._due.after(n)

    def are_missing(self, n: int) -> bool:
        """Whether an interruption after step n left its samples unwritten."""
        return self._due.missing(n)

    def draw(self, n: int, params: Params) -> UInt8[np.ndarray, "h w *c"]:
        """Sample and write the figure; returns its mosaic."""
        params = params[0] if self._has_teacher else params  # not those of the teacher
        images = self._generator(self._wanted, self._scale, seed=self._seed, params=params)
        names = [*self._names, "unconditional"]
        if processes.is_first():
            self._due.out.mkdir(exist_ok=True)
            guidance_grid({Setting(self._scale): images}, names, self._due.file(n))
        return mosaic(images, len(names))
