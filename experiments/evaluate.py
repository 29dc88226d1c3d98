"""How good a run's images are for each w, beside real images.

    python -m experiments.evaluate DIR [--w 0 1 2 4] [--per-label N]

A classifier trained here, on real training images only, judges. Per w:

    accuracy         share of images that it sees as the class asked for
    frechet          Frechet distance to the training images in its features
    frechet pixels   the same in pixels, to one half of all real images
    precision        share of generated images within the manifold of held-out real ones
    recall           share of held-out real images within the generated manifold: diversity
    nearest          median distance in pixels to the nearest training image: memorised if small

The line `real` has what real data get in the place of generated: held-out images, and for `frechet
pixels` the other half. Both sides of a comparison have the same sizes in that line and in the others.

A run of `shapes` has captions instead of classes: the reader of its scenes says which claims of a caption are
true of its image, see `experiments/alignment.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro
from jax.sharding import NamedSharding

from experiments import alignment, ranges, run_folder
from experiments.cli import refusing, script
from experiments.devices import Devices
from experiments.generate import Images, check, generator
from experiments.pictures import curves_over_w
from experiments.run_folder import write_json
from experiments.runs import Run
from experiments.sampler import Sampler
from jaxflow.data.batches import load
from jaxflow.evaluation.frechet import frechet_distance
from jaxflow.evaluation.judge import Judge, train_judge
from jaxflow.evaluation.neighbours import nearest_distance, precision_recall
from jaxflow.training import processes

MOST_REAL = 10_000
"""Training images that the generated ones are compared to."""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    w: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    """Guidance scales."""
    per_label: int = 100
    """Images of each class."""
    captions: int = 500
    """Captions of each split, for a run of captions."""
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)
    devices: Annotated[Devices, tyro.conf.arg(name="")] = field(default_factory=Devices)
    seed: int = 1
    """Of the noise and of the judge."""
    judge_steps: int = 500
    """Training steps of the judge."""
    data_dir: str | None = None
    """Folder of the prepared data sets; the one of the training if left out."""


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.evaluate")
    with refusing():
        run, results = run_folder.open_run(arguments.run), run_folder.results(arguments.run)
        check(run.experiment, arguments.w, arguments.sampler, arguments.per_label)
        ranges.given(arguments, "w")
        ranges.at_least(1, arguments, "captions", "judge_steps")
        ranges.seed(arguments.seed)
        mapping = arguments.devices.mapping(run.shapes())
        _, params = run_folder.newest_params(arguments.run, run, mapping.lay_out(run.shapes()))
        if run.experiment.dataset == "shapes":
            report = alignment.report(results, run, arguments.w, arguments.captions, arguments.data_dir)
        else:
            report = report_on_classes(results, run, arguments, mapping.examples)
        run_folder.make(results)
    generate = generator(run, mapping.examples, sampler=arguments.sampler, seed=arguments.seed)
    report(partial(generate, params))


def report_on_classes(
    results: Path, run: Run, arguments: Arguments, sharding: NamedSharding
) -> Callable[[Images], None]:
    """Read the data of a run of classes; what comes back measures its images and writes the tables."""
    classes = len(run.classes)
    train, test = (jax.device_get(load(run.open_split(s, arguments.data_dir))) for s in ("train", "test"))
    labels = np.tile(np.arange(classes, dtype=np.int32), arguments.per_label)

    def report(generate: Images) -> None:
        key = jax.random.key(arguments.seed)
        judge = train_judge(
            *(key, train["image"], train["y"], classes), steps=arguments.judge_steps, sharding=sharding
        )
        measure = Measure(judge, train["image"], test["image"], len(labels))
        real = measure.real(test["y"])
        rows = [measure(generate(labels, w), labels) for w in arguments.w]
        table = {"w": list(arguments.w)} | {name: [row[name] for row in rows] for name in real}
        write(results, table, real, len(labels))

    return report


class Measure:
    """Figures of a set of generated images, against real ones of the same number where that matters."""

    def __init__(self, judge: Judge, train: np.ndarray, test: np.ndarray, generated: int):
        self._judge = judge
        self._train = train[:MOST_REAL]
        self._test = test[: min(generated, len(test))]
        self._train_features = judge(self._train)[1]
        self._test_classes, self._test_features = judge(test)
        everything = _pixels(np.concatenate([train, test]))
        half = min(generated, len(everything) // 2)
        order = np.random.default_rng(0).permutation(len(everything))
        self._halves = everything[order[:half]], everything[order[half : 2 * half]]

    def real(self, test_labels: np.ndarray) -> dict[str, float]:
        """What real data get."""
        features = self._test_features[: len(self._test)]
        # Precision and recall of one real set against another, of the same size.
        precision, recall = precision_recall(features, self._train_features[: len(features)])
        return {
            "accuracy": float(np.mean(self._test_classes == test_labels)),
            "frechet": frechet_distance(features, self._train_features),
            "frechet pixels": frechet_distance(*self._halves),
            "precision": precision,
            "recall": recall,
            "nearest": float(np.median(nearest_distance(_pixels(self._test), _pixels(self._train)))),
        }

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """What generated images get."""
        classes, features = self._judge(images)
        features = features[: len(self._test)]
        precision, recall = precision_recall(self._test_features[: len(features)], features)
        pixels = _pixels(images)
        return {
            "accuracy": float(np.mean(classes == labels)),
            "frechet": frechet_distance(features, self._train_features),
            "frechet pixels": frechet_distance(pixels[: len(self._halves[1])], self._halves[1]),
            "precision": precision,
            "recall": recall,
            "nearest": float(np.median(nearest_distance(pixels, _pixels(self._train)))),
        }


def _pixels(images: np.ndarray) -> np.ndarray:
    """Images as vectors of floats in [-1, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / 127.5 - 1


def write(folder: Path, table: dict[str, list[float]], real: dict[str, float], n: int) -> None:
    """Print the table; leave it as JSON and as curves."""
    if not processes.is_first():
        return
    names = list(real)
    print(f"\n{n} images for each w\n{'w':>6}" + "".join(f"{name:>16}" for name in names))
    for i, w in enumerate(table["w"]):
        print(f"{w:>6g}" + "".join(f"{table[name][i]:>16.4g}" for name in names))
    print(f"{'real':>6}" + "".join(f"{real[name]:>16.4g}" for name in names))
    result = {"images_per_w": n, "table": table, "real": real}
    write_json(folder / "evaluation.json", result)
    curves_over_w(table, real, ("frechet", "frechet pixels"), folder / "evaluation.png")
    print(f"{folder / 'evaluation.png'}\n{folder / 'evaluation.json'}")


if __name__ == "__main__":
    script(main)
