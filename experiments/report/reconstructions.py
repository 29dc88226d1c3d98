"""Images and what an autoencoder makes of them, during its training."""

import jax
import numpy as np
from jaxtyping import UInt8

from experiments.report.due import Due
from experiments.report.plots import grid, mosaic
from jaxflow.data.dataset import Dataset
from jaxflow.devices import processes
from jaxflow.devices.blocks import in_blocks
from jaxflow.devices.parallel import Placement
from jaxflow.places import Place
from jaxflow.runs.autoencoder_run import AutoencoderRun
from jaxflow.training.step import Params

COLUMNS = 10


class Reconstructions:
    """Some images, and the same decoded from their latents.

    Args:
        run: the run that is trained.
        placement: of the images on devices.
        dataset: its first images are shown.
        out: folder of the figures, `step=N.png`.
    """

    def __init__(self, run: AutoencoderRun, placement: Placement, dataset: Dataset, out: Place):
        self._run, self._placement = run, placement
        self._due = Due(run.experiment.sample_every, run.experiment.steps, out)
        examples = dataset.examples(range(min(COLUMNS, len(dataset))))
        self._images = np.stack([example["image"] for example in examples])

    def are_due(self, n: int) -> bool:
        """Whether they are due after step n."""
        return self._due.after(n)

    def are_missing(self, n: int) -> bool:
        """Whether an interruption after step n left them unwritten."""
        return self._due.missing(n)

    def draw(self, n: int, params: Params) -> UInt8[np.ndarray, "h w *c"]:
        """Decode and write the figure; returns its mosaic."""
        autoencoder = self._run.autoencoder(params)
        pass_through = lambda images: autoencoder.decode(autoencoder.encode(images))  # noqa: E731
        decoded = in_blocks(pass_through, self._images, size=COLUMNS, sharding=self._placement.examples)
        both = np.concatenate([self._images, jax.device_get(decoded)])
        if processes.is_first():
            self._due.out.mkdir(exist_ok=True)
            grid({f"step {n}": both}, ["images", "decoded"], self._due.file(n))
        return mosaic(both, 2)
