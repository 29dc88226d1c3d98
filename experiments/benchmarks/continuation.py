"""Clips of moving shapes continued beyond the length of training: what is kept, by window.

    python -m experiments.benchmarks.continuation RUN [--frames 64] [--w 3] [--captions 100]

Draws a clip for each of some captions of the split `test` and continues it window by window, with the last
`--keep` frames held. The reader reads every 16 frames on their own, where the objects of the caption should
still be there and do the same: the share of true claims by window. What moves straight leaves the image in
the end or turns back at its edge: of long clips of a good model not every claim on motion is true.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import tyro

from experiments.cli import refusing, script
from experiments.opening import Source, open_model
from experiments.report.motion import figures
from experiments.report.prompts import Prompts
from experiments.report.tables import print_table
from jaxflow import ranges
from jaxflow.moving_shapes.alignment import CLAIMS
from jaxflow.moving_shapes.scenes import FRAMES
from jaxflow.places import place
from jaxflow.runs.edits import extended
from jaxflow.runs.sampler import Sampler


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    run: tyro.conf.Positional[str]
    """The run folder."""
    frames: int = 64
    """Of a clip."""
    keep: int = 4
    """Last frames that a window continues."""
    repeats: int = 1
    """How often each solver step is made, so that new frames agree better with the kept ones."""
    w: float = 3.0
    """Guidance scale."""
    captions: int = 100
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.continuation")
    with refusing():
        ranges.at_least(FRAMES, frames=a.frames)
        opened = open_model(place(a.run, "RUN"), Source()).read()
        if opened.run.experiment.dataset != "moving_shapes":
            raise ValueError(f"run = {a.run}: expected one of moving_shapes, which the reader reads")
        space, test = opened.model.space, opened.split("test")
        prompts = Prompts(test, range(min(a.captions, len(test))))
        generate = opened.generator(a.sampler, "classifier_free", 0.0, None)
    first = generate(prompts.wanted, a.w, seed=0)
    draw = lambda edit, window: generate(prompts.wanted, a.w, seed=window, edit=edit)  # noqa: E731
    clips = extended(draw, space, first, frames=a.frames, keep=a.keep, repeats=a.repeats)
    rows = [(name, figures(window, prompts.captions)) for name, window in windows(clips)]
    names = [name for name in (*CLAIMS, "persistence") if any(name in row for _, row in rows)]
    print(f"share of {len(prompts.captions)} captions that are true of a window, w = {a.w:g}")
    print_table("frames", names, rows)


def windows(clips: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Every 16 frames, by their numbers."""
    for start in range(0, clips.shape[1] - FRAMES + 1, FRAMES):
        yield f"{start}-{start + FRAMES - 1}", clips[:, start : start + FRAMES]


if __name__ == "__main__":
    script(main)
