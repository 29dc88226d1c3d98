"""What each pipeline of diffusers has of its own: its network, and how it is called.

DiTPipeline                 DiT: classes of ImageNet, in the latents of Stable Diffusion
SiTPipeline                 SiT, which diffusers lacks: laid out in the same way, but for the scheduler
StableDiffusionPipeline     Stable Diffusion 1 and 2: prompts; null is the empty one
StableDiffusionXLPipeline   Stable Diffusion XL
StableDiffusion3Pipeline    Stable Diffusion 3 and 3.5
FluxPipeline                FLUX.1

The network of a DiT or SiT may also lie alone; all it lacks is the autoencoder.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as linen
import jax.numpy as jnp

from jaxflow import paths
from jaxflow.data.codecs import Classes, Codec
from jaxflow.fields import Apply
from jaxflow.nn.attributes import Dtype
from jaxflow.nn.embeddings import sinusoidal
from jaxflow.nn.flux import PATCH
from jaxflow.pretrained import dit, flux, schedulers, sd3, stable_unet
from jaxflow.pretrained.adapter_files import NameOf
from jaxflow.pretrained.folders import INDEX, count, part, read_json
from jaxflow.pretrained.schedulers import Schedule
from jaxflow.pretrained.tensors import Stored, find_tensors
from jaxflow.runs.frozen_text import FrozenText
from jaxflow.training.step import Params


class Parts(NamedTuple):
    """The parts of a pipeline that differ."""

    file: Path
    """The network's config.json."""
    network: Apply
    params: Stored
    codec: Codec
    patch: int = 1
    """Side of a token in latents."""
    schedule: Schedule | None = None
    """Of pipelines without a scheduler."""
    side: int | None = None
    """Of the latents, where the network's file has none."""

    @property
    def channels(self) -> int:
        """Of the latents."""
        shapes = self.params.shapes
        first = shapes["conv_in" if "conv_in" in shapes else "patch_embedding"]["kernel"]
        return first.shape[-2] // self.patch**2


class Kind(NamedTuple):
    """A class of pipelines."""

    read: Callable[[Path, Dtype, int], Parts]
    """Its folder, the type of the network, and pixels to a latent -> its parts."""
    part: str
    """The network's folder."""
    name_of: Callable[[Path], NameOf]
    """The network's folder -> the name of each parameter in its files."""


def of_dit(folder: Path, dtype: Dtype, factor: int) -> Parts:
    """Of a DiTPipeline; or a DiT alone, with the schedule of all that were published."""
    file, config = _config(part(folder, "transformer"))
    network, params, classes = dit.read(find_tensors(file.parent), config.get("num_attention_heads"), dtype)
    names = names_of(description(folder), classes)
    schedule = None if (folder / INDEX).is_file() else schedulers.ddpm({"beta_schedule": "linear"})
    return Parts(file, _apply(network), params, Classes(names), network.patch, schedule)


def of_sit(folder: Path, dtype: Dtype, factor: int) -> Parts:
    """Of a SiTPipeline: a DiT that predicts the velocity, at the time itself, not a thousand times it."""
    schedule = Schedule(paths.Linear(), "velocity", lambda t: t / 1000)
    return of_dit(folder, dtype, factor)._replace(schedule=schedule)


def of_stable_diffusion(folder: Path, dtype: Dtype, factor: int) -> Parts:
    """Of a StableDiffusionPipeline, whose U-Net attends to all tokens of a prompt, the padding too."""
    file, config = _config(folder / "unet")
    network, params = stable_unet.read(find_tensors(file.parent), file, config, dtype)

    def apply(params: Params, x: Any, t: Any, y: Any) -> Any:
        return network.apply({"params": params}, x, t, y.tokens)

    return Parts(file, apply, params, FrozenText(str(folder.absolute()), dtype))


def of_stable_diffusion_xl(folder: Path, dtype: Dtype, factor: int) -> Parts:
    """Of a StableDiffusionXLPipeline, whose U-Net also knows the size of the image, here uncropped."""
    file, config = _config(folder / "unet")
    network, params = stable_unet.read(find_tensors(file.parent), file, config, dtype)
    features = count(file, config, "addition_time_embed_dim")

    def apply(params: Params, x: Any, t: Any, y: Any) -> Any:
        h, w = (factor * side for side in x.shape[1:3])
        original, corner, target = (h, w), (0, 0), (h, w)
        numbers = jnp.array([*original, *corner, *target], jnp.float32)
        sizes = sinusoidal(numbers, features, max_period=1e4).reshape(1, -1)
        vector = jnp.concatenate([y.pooled, jnp.broadcast_to(sizes, (len(x), sizes.size))], axis=1)
        return network.apply({"params": params}, x, t, y.tokens, vector)

    return Parts(file, apply, params, FrozenText(str(folder.absolute()), dtype))


def of_stable_diffusion_3(folder: Path, dtype: Dtype, factor: int) -> Parts:
    """Of a StableDiffusion3Pipeline: a flow, with or without T5."""
    file, config = _config(folder / "transformer")
    network, params = sd3.read(find_tensors(file.parent), file, config, dtype)
    return Parts(file, _apply(network), params, FrozenText(str(folder.absolute()), dtype), network.patch)


def of_flux(folder: Path, dtype: Dtype, factor: int) -> Parts:
    """Of a FluxPipeline, whose patches are the channels of its input."""
    file, config = _config(folder / "transformer")
    network, params = flux.read(find_tensors(file.parent), file, config, dtype)
    return Parts(file, _apply(network), params, FrozenText(str(folder.absolute()), dtype), PATCH, side=128)


def _of_sd3(folder: Path) -> NameOf:
    depth = count(*_config(folder), "num_layers")
    return partial(sd3.name_of, last=f"transformer_blocks.{depth - 1}.attn.")


def _of_dit(folder: Path) -> NameOf:
    return dit.name_of(find_tensors(folder))


KINDS = {
    "DiTPipeline": Kind(of_dit, "transformer", _of_dit),
    "SiTPipeline": Kind(of_sit, "transformer", _of_dit),
    "StableDiffusionPipeline": Kind(of_stable_diffusion, "unet", lambda _: stable_unet.name_of),
    "StableDiffusionXLPipeline": Kind(of_stable_diffusion_xl, "unet", lambda _: stable_unet.name_of),
    "StableDiffusion3Pipeline": Kind(of_stable_diffusion_3, "transformer", _of_sd3),
    "FluxPipeline": Kind(of_flux, "transformer", lambda _: flux.name_of),
}
"""By the class in the index."""
ALONE = {
    "DiT": "DiTPipeline",
    "DiTTransformer2DModel": "DiTPipeline",
    "Transformer2DModel": "DiTPipeline",
    "SiT": "SiTPipeline",
}
"""The pipeline of a network that lies alone, by the class in its configuration."""


def description(folder: Path) -> dict[str, Any]:
    """What a folder says that it is: the index of a pipeline, or the configuration of a model, if any."""
    found = next((file for name in (INDEX, "config.json") if (file := folder / name).is_file()), None)
    return {} if found is None else read_json(found)


def _config(folder: Path) -> tuple[Path, dict[str, Any]]:
    file = folder / "config.json"
    return file, read_json(file)


def _apply(network: linen.Module) -> Apply:
    return lambda params, x, t, y: network.apply({"params": params}, x, t, y)  # type: ignore[return-value]


def names_of(index: dict[str, Any], classes: int) -> tuple[str, ...]:
    """The first of each class's names, with its number where several classes have it; or the numbers.

    >>> names_of({"id2label": {"0": "tench, Tinca tinca", "1": "crane", "2": "crane"}}, 3)
    ('tench', 'crane 1', 'crane 2')
    """
    labels = index.get("id2label")
    if not isinstance(labels, dict):
        return tuple(map(str, range(classes)))
    names = [str(labels.get(str(i), i)).partition(",")[0].strip() for i in range(classes)]
    number = Counter(names)
    return tuple(f"{name} {i}" if number[name] > 1 else name for i, name in enumerate(names))
