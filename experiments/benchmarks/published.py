"""Memory and time of an image from a model of published size, with random weights.

    python -m experiments.benchmarks.published stable_diffusion|dit [--steps 2] [--dtype bfloat16]

Stable Diffusion 1 at 512 x 512 with guidance and a prompt of 77 tokens, or DiT-XL/2 at 256 x 256. Images,
weights and tokens are random: only sizes matter here.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.cli import refusing, script
from jaxflow import nn, paths, ranges
from jaxflow.data.codecs import Classes
from jaxflow.devices import mesh
from jaxflow.nn.attributes import Dtype
from jaxflow.nn.stable_unet import StableUNet
from jaxflow.pretrained import schedulers
from jaxflow.runs.generation import Generator
from jaxflow.runs.model import Model
from jaxflow.runs.requests import Request
from jaxflow.runs.sampler import Sampler
from jaxflow.spaces import Autoencoder, Latents

SCHEDULES: dict[str, dict[str, Any]] = {
    "stable_diffusion": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "dit": {"beta_schedule": "linear"},
}


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    name: tyro.conf.Positional[Literal["stable_diffusion", "dit"]]
    steps: int = 2
    """Steps of DPM-Solver++ 2M, each of one guided network evaluation."""
    dtype: Dtype = "bfloat16"
    """Of the network's parameters and computation."""


def random_params(module_init: Callable[[], Any], dtype: str) -> Any:
    """Numbers of the right shapes and size, made leaf by leaf."""
    shapes = jax.eval_shape(module_init)
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.02 * rng.standard_normal(leaf.shape, np.float32), dtype), shapes
    )


def model_of(name: str, dtype: Dtype) -> tuple[Model, Any]:
    """The model, and the condition of an image."""
    key = jax.random.key(0)
    autoencoder = Autoencoder(nn.AutoencoderKL())
    weights = random_params(lambda: autoencoder.initial_params(key), "float32")
    autoencoder = Autoencoder(nn.AutoencoderKL(), weights)
    side = 64 if name == "stable_diffusion" else 32
    space = Latents((8 * side, 8 * side, 3), autoencoder, (0.0,) * 4, (1 / 0.18215,) * 4, "")
    x, t = jnp.zeros((1, side, side, 4)), jnp.zeros(1)
    betas = schedulers.noise_rates(SCHEDULES[name], 1000)
    path = paths.DDPM(jnp.asarray(betas, jnp.float32))
    if name == "dit":
        network: Any = nn.published("XL", 2, nn.ClassTable(1000), dtype=dtype)
        y: Any = np.int32(7)
        codec: Any = Classes(tuple(map(str, range(1000))))
    else:
        network, y = StableUNet(dtype=dtype), np.random.default_rng(1).standard_normal((77, 768), np.float32)
        codec = Tokens()
    params = random_params(lambda: network.init(key, x, t, jnp.asarray(y)[None])["params"], dtype)
    return Model(network, params, path, "noise", codec, space), y


class Tokens:
    """Of prompts that are encoded already."""

    null = np.zeros((77, 768), np.float32)


def main(argv: list[str] | None = None) -> None:
    """Sample twice, with and without compilation."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.published")
    with refusing():
        ranges.at_least(1, steps=a.steps)
    model, y = model_of(a.name, a.dtype)
    count = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    shape = " x ".join(map(str, model.space.image_shape))
    print(f"{a.name}: {count:,} parameters in {a.dtype}, {shape}, {a.steps} steps; JAX {jax.__version__}")
    generate = Generator(model, Sampler(steps=a.steps), mesh.on_one_device())
    number = np.zeros(1, np.uint32)
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        images = generate(Request(y[None], number, number), 7.5, seed=0)
        seconds.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    jax.block_until_ready(model.to_images(jnp.zeros((1, *model.event_shape))))
    decoding = time.perf_counter() - begin
    each = (seconds[1] - decoding) / a.steps
    print(f"image {images.shape}; compilation {seconds[0] - seconds[1]:.1f} s")
    print(f"a guided step {each:.1f} s, decoding {decoding:.1f} s; peak memory {peak():.1f} GiB")


def peak() -> float:
    """Most memory that the process had, in GiB; nan where the system does not tell."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 2**20 if found else float("nan")


if __name__ == "__main__":
    script(main)
