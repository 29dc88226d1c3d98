"""MNIST by what people use in PyTorch, for some minutes on this machine, measured like `evaluate`.

    pip install --no-deps torchcfm pot
    python -m experiments.benchmarks.others lab|torchcfm [--minutes 10] [--w 1 2] [--data-dir DIR]

    lab         the network and recipe of the course's third lab: 1.2 M parameters, batches of 250, Adam at
                1e-3, a tenth of the labels null; its images are padded to 32 x 32 here, which it resizes
    torchcfm    its example of conditional MNIST: U-Net of 1.1 M parameters, batches of 128, Adam at 1e-3,
                without a null class, so that only w = 1 is possible

Both match the velocity of the straight path, as the preset `mnist` does. Images are sampled by as many Heun
steps as `evaluate` takes, from the same classes, and judged by the same classifier; a row is comparable with
that of `evaluate` on a run of `mnist`. Needs the extra `reference`.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
import tyro
from jaxtyping import Int, UInt8

from experiments.benchmarks.torch_unet import TorchUNet
from experiments.cli import refusing, script
from experiments.report import quality
from experiments.report.tables import print_table
from jaxflow import ranges
from jaxflow.data.datasets import open_dataset
from jaxflow.devices import mesh

CLASSES = 10
FIGURES = ("accuracy", "frechet", "kernel", "precision", "recall", "coverage")
BLOCK = 250
"""Images sampled at once."""

Images = UInt8[np.ndarray, "n 28 28 1"]


class Recipe(NamedTuple):
    """How one of them trains."""

    make: Callable[[], Any]
    """The network, a module (x, t, y), of whose labels the last is null if any are dropped."""
    side: int
    """Of the padded images."""
    batch: int
    dropout: float


def _of_torchcfm() -> torch.nn.Module:
    try:
        from torchcfm.models.unet import UNetModel
    except ImportError as error:
        raise ValueError(f"torchcfm needs {error.name}: pip install --no-deps torchcfm pot") from None

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = {"dim": (1, 28, 28), "num_channels": 32, "num_res_blocks": 1}
            self.network = UNetModel(**sizes, num_classes=CLASSES, class_cond=True)

        def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.network(t, x, y)

    return Network()


RECIPES = {
    "lab": Recipe(TorchUNet, 32, 250, 0.1),
    "torchcfm": Recipe(_of_torchcfm, 28, 128, 0.0),
}


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    name: Annotated[Literal["lab", "torchcfm"], tyro.conf.Positional]
    """Whose network and recipe."""
    minutes: float = 10.0
    """Of training."""
    w: tuple[float, ...] = (1.0,)
    """Guidance scales; of torchcfm only 1."""
    steps: int = 10
    """Of Heun's method."""
    data_dir: str | None = None
    """Folder of the prepared data, as of `train`."""
    per_label: int = 100
    """Images of each class, on average."""
    judge_steps: int = 500
    """Of the classifier's training, as in `evaluate`."""
    seed: int = 0


def main(argv: list[str] | None = None) -> None:
    """Train, sample, and print the table."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.others")
    recipe = RECIPES[a.name]
    with refusing():
        ranges.positive(minutes=a.minutes)
        ranges.at_least(1, steps=a.steps, per_label=a.per_label, judge_steps=a.judge_steps)
        if not recipe.dropout and set(a.w) != {1.0}:
            raise ValueError(f"w = {a.w}: {a.name} has no null class; only w = 1 is possible")
        torch.manual_seed(a.seed)
        network = recipe.make()
        real = quality.read(lambda split: open_dataset("mnist", split, a.data_dir))
        labels = quality.labels_of(real, CLASSES, a.per_label)
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    size = sum(parameter.numel() for parameter in network.parameters())
    print(f"{a.name}: {size:,} parameters, PyTorch {torch.__version__}, {threads} threads", flush=True)
    steps = train(network, recipe, real.train["image"], real.train["y"], 60 * a.minutes)
    speed = steps * recipe.batch / 60 / a.minutes
    print(f"{steps} steps of {recipe.batch} in {a.minutes:g} min, {speed:.1f} images / s", flush=True)
    judged: Any = {"seed": a.seed, "steps": a.judge_steps, "sharding": mesh.on_one_device()}
    measure = quality.Measure(real, labels, **judged)
    rows = [(f"{w:g}", measure(sample(network, recipe, labels, w, a.steps))) for w in a.w]
    rows.append((measure.label, measure.real()))
    halves = [{name: each.half for name, each in row.intervals.items()} for _, row in rows]
    print_table("w", FIGURES, [(name, row.figures) for name, row in rows], halves)


def train(network: Any, recipe: Recipe, images: Images, y: Int[np.ndarray, " n"], seconds: float) -> int:
    """Train for this time; the number of steps."""
    data = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    border = (recipe.side - data.shape[-1]) // 2
    data = torch.nn.functional.pad(data, 4 * [border], value=-1.0)
    classes, optimizer = torch.from_numpy(y.astype(np.int64)), torch.optim.Adam(network.parameters(), lr=1e-3)
    begin, steps, order = time.perf_counter(), 0, torch.randperm(0)
    network.train()
    while time.perf_counter() - begin < seconds:
        if len(order) < recipe.batch:
            order = torch.randperm(len(data))
        chosen, order = order[: recipe.batch], order[recipe.batch :]
        z, label = data[chosen], classes[chosen]
        label = torch.where(torch.rand(len(label)) < recipe.dropout, CLASSES, label)
        noise, t = torch.randn_like(z), torch.rand(len(z))
        at = t[:, None, None, None]
        loss = (network(at * z + (1 - at) * noise, t, label) - (z - noise)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    return steps


@torch.inference_mode()
def sample(network: Any, recipe: Recipe, labels: Int[np.ndarray, " n"], w: float, steps: int) -> Images:
    """Images of these classes by Heun's method, 28 x 28."""
    network.eval()
    parts = []
    for y in torch.from_numpy(labels.astype(np.int64)).split(BLOCK):
        x = torch.randn(len(y), 1, recipe.side, recipe.side)
        for i in range(steps):
            slope = velocity(network, x, i / steps, y, w)
            ahead = velocity(network, x + slope / steps, (i + 1) / steps, y, w)
            x = x + (slope + ahead) / (2 * steps)
        parts.append(x)
    border = (recipe.side - 28) // 2
    inner = torch.cat(parts)[:, :, border : recipe.side - border, border : recipe.side - border]
    return ((inner.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def velocity(network: Any, x: torch.Tensor, t: float, y: torch.Tensor, w: float) -> torch.Tensor:
    """(1 - w) u(x) + w u(x | y)."""
    times = torch.full((len(x),), t)
    conditional = network(x, times, y)
    if w == 1:
        return conditional
    return (1 - w) * network(x, times, torch.full_like(y, CLASSES)) + w * conditional


if __name__ == "__main__":
    script(main)
