"""What a network takes from the words of its captions: the error of the predicted data with other words.

    python -m experiments.benchmarks.words RUN [--t 0.1 0.2 0.4] [--swap circle,square,cross red,green,blue]

For pictures of the split `test` prints the mean of the squared error |data_th(x_t, t | y) - data|^2, and by
how much it grows without the caption, and with each word of a group swapped for another of the group. Where
it does not grow the network does not know the words, and no guidance scale brings them out. Pictures, noise
and swaps are the same for every run, so that runs can be compared.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float

from experiments.cli import refusing, script
from experiments.opening import Source, open_model
from experiments.report.prompts import Prompts
from experiments.report.tables import print_table
from jaxflow import paths, predictions, ranges
from jaxflow.data import words
from jaxflow.data.codecs import Classes, stack
from jaxflow.places import place
from jaxflow.runs.model import Model
from jaxflow.training.step import Params
from jaxflow.typing import Condition

CAPTION = "with caption"
"""The first condition, and the name of its column."""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    run: tyro.conf.Positional[str]
    """A run folder whose data have captions."""
    t: tuple[float, ...] = (0.1, 0.2, 0.4)
    """Times, a row each."""
    swap: tuple[str, ...] = ()
    """Groups of words, separated by commas, each word of which is swapped for another of its group."""
    images: int = 256
    source: tyro.conf.OmitArgPrefixes[Source] = field(default_factory=Source)


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.words")
    with refusing():
        ranges.not_empty(t=a.t)
        ranges.fraction(t=a.t)
        ranges.at_least(1, images=a.images)
        opened = open_model(place(a.run, "run"), a.source)
        if isinstance(opened.model.codec, Classes):
            raise ValueError(f"run = {a.run}: expected one whose data have captions")
        groups = [group(text) for text in a.swap]
        opened, test = opened.read(), opened.split("test")
        prompts = Prompts(test, range(min(a.images, len(test))))
        conditions = said(opened.model, prompts.captions, groups)
    rows = errors(opened.model, opened.model.space.encode(jnp.asarray(prompts.images)), conditions, a.t)
    print(
        f"squared error of the predicted data, and its growth with other words; {len(prompts.images)} images"
    )
    print_table("t", [*conditions], [(f"{t:g}", row) for t, row in zip(a.t, rows, strict=True)])


def group(text: str) -> list[str]:
    """The words of an option.

    Raises:
        ValueError: fewer than two.
    """
    found = text.split(",")
    if len({*found} - {""}) < 2 or "" in found:
        raise ValueError(f"swap = {text}: expected two or more words, separated by commas")
    return found


def swapped(caption: str, group: Sequence[str]) -> str:
    """The caption with each word of the group replaced by another one of it, at random.

    >>> swapped("a red square on a red circle", ["square", "circle"])
    'a red circle on a red square'
    """
    pick = random.Random(caption)
    others = {word: [other for other in group if other != word] for word in group}
    return " ".join(pick.choice(others[word]) if word in others else word for word in words.split(caption))


def said(model: Model, captions: Sequence[str], groups: Sequence[Sequence[str]]) -> Mapping[str, Condition]:
    """The conditions: captions, without them, and with each group swapped."""
    texts = {CAPTION: captions, "without": [""] * len(captions)}
    texts |= {"/".join(each): [swapped(caption, each) for caption in captions] for each in groups}
    of = lambda caption: model.codec.of({"caption": caption})  # noqa: E731
    return {name: stack([of(caption) for caption in each]) for name, each in texts.items()}


def errors(
    model: Model, data: Float[Array, "n *event"], conditions: Mapping[str, Condition], times: Sequence[float]
) -> list[dict[str, float]]:
    """For each time the error with the captions, and its growth with each other condition."""

    @jax.jit
    def error(params: Params, data: Array, t: Array, y: Condition) -> Array:
        noise = jax.random.normal(jax.random.key(0), data.shape, data.dtype)
        t = jnp.full(len(data), t, data.dtype)
        x = paths.interpolate(model.path, data, noise, t)
        u = model.at(params).field(x, t, y)
        predicted = predictions.convert(model.path, x, t, u, source="velocity", target="data")
        return jnp.mean(jnp.sum((predicted - data) ** 2, axis=tuple(range(1, data.ndim))))

    rows = []
    for t in np.asarray(times, np.float32):
        row = {name: float(error(model.params, data, t, y)) for name, y in conditions.items()}
        rows.append({name: e - (name != CAPTION) * row[CAPTION] for name, e in row.items()})
    return rows


if __name__ == "__main__":
    script(main)
