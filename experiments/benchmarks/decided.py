"""When a sampler decides what its pictures show: the captions that are true if it starts from real ones.

    python -m experiments.benchmarks.decided RUN [--t 0 0.1 0.3 0.5 0.8] [--w 2] [--captions 100]
        [--containing small]

Real pictures of the split `test` are given the noise of time t, and sampled with their captions from there.
At t = 0 nothing is left of them, at t = 1 all. Where a share falls, what it counts is decided; what is
missing from late times on is not decided wrongly but drawn badly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import UInt8

from experiments.cli import refusing, script
from experiments.opening import Source, open_model
from experiments.report.prompts import Prompts
from experiments.report.tables import print_table
from jaxflow import ranges
from jaxflow.data import words
from jaxflow.data.dataset import Dataset
from jaxflow.moving_shapes import alignment as moving
from jaxflow.places import place
from jaxflow.runs.edits import Edit
from jaxflow.runs.sampler import Sampler
from jaxflow.shapes import alignment as still
from jaxflow.spaces import Space

WORLDS = {"shapes": still, "moving_shapes": moving}
"""Data sets whose pictures a reader reads, and how these are compared with captions."""
Pictures = UInt8[np.ndarray, "n *image"]


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    run: tyro.conf.Positional[str]
    """A run folder of shapes or moving_shapes."""
    t: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.8)
    """Times at which the sampler starts, a row each."""
    w: float = 2.0
    """Guidance scale."""
    captions: int = 100
    """How many, the first ones of the split."""
    containing: str | None = None
    """Of captions with this word only."""
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)
    source: tyro.conf.OmitArgPrefixes[Source] = field(default_factory=Source)


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.decided")
    with refusing():
        ranges.not_empty(t=a.t)
        ranges.fraction(t=a.t)
        ranges.at_least(1, captions=a.captions)
        opened = open_model(place(a.run, "RUN"), a.source)
        world: Any = WORLDS.get(opened.run.experiment.dataset)
        if world is None:
            raise ValueError(f"run = {a.run}: expected one of {' or '.join(WORLDS)}, which a reader reads")
        opened, test = opened.read(), opened.split("test")
        prompts = Prompts(test, with_word(test, a.containing)[: a.captions])
        generate = opened.generator(a.sampler, "classifier_free", 0.0, None)
    draw = lambda edit: generate(prompts.wanted, a.w, seed=0, edit=edit)  # noqa: E731
    drawn = from_each(a.t, opened.model.space, prompts.images, draw)
    rows = [(f"{t:g}", world.alignment(each, prompts.captions)) for t, each in zip(a.t, drawn, strict=True)]
    names = [name for name in world.CLAIMS if name in rows[0][1]]
    print(f"share of {len(prompts.captions)} captions that are true, sampled from time t on, w = {a.w:g}")
    print_table("t", names, rows)


def with_word(dataset: Dataset, word: str | None) -> Sequence[int]:
    """The positions of the examples whose captions have this word; of all if it is None.

    Raises:
        ValueError: there is none.
    """
    everything = range(len(dataset))
    if word is None:
        return everything
    captions = [example["caption"] for example in dataset.examples(everything)]
    found = [i for i, caption in enumerate(captions) if word.lower() in words.split(caption)]
    if not found:
        raise ValueError(f"containing = {word!r}: no caption of the split test has this word")
    return found


def from_each(
    times: Sequence[float], space: Space, images: Pictures, draw: Callable[[Edit | None], Pictures]
) -> list[Pictures]:
    """The pictures that `draw` makes of real ones with the noise of each time; at t = 1 those themselves."""
    data = np.asarray(space.encode(jnp.asarray(images)))
    edits = [Edit(data, None, 1 - t) if 0 < t < 1 else None for t in times]
    return [images if t == 1 else draw(edit) for t, edit in zip(times, edits, strict=True)]


if __name__ == "__main__":
    script(main)
