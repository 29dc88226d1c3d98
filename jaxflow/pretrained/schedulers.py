"""The path of a published model, from its scheduler's configuration.

A DDPM has a table of noise rates: linear, scaled_linear, squaredcos_cap_v2, or its own numbers. A flow has
the straight path, and a shift of the time grid, which may depend on the number of tokens of an image:

    shift = exp(mu),    mu linear in the tokens

Which solver the configuration names does not matter: any solver here runs on any path.

Source: Esser et al. 2403.03206, section 5.3.2, for the shift.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxflow import paths
from jaxflow.predictions import Prediction
from jaxflow.pretrained.folders import read_json
from jaxflow.ranges import quoted
from jaxflow.typing import GaussianPath

PREDICTIONS: dict[str, Prediction] = {"epsilon": "noise", "v_prediction": "v", "sample": "data"}
MOST = 100_000
"""Steps of a table."""


class Schedule(NamedTuple):
    """What a network was trained on."""

    path: GaussianPath
    prediction: Prediction
    time: Callable[[Array], Array]
    """Our t -> a thousandth of the network's timestep."""
    sign: int = 1
    """Of the network's output; -1 if its velocity points from data to noise."""
    shift: float = 1.0
    """Of the time grid."""


def read(folder: Path, tokens: int) -> Schedule:
    """The schedule of a folder with scheduler_config.json, for images of so many tokens.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it describes a schedule that is not known; the message names the entry.
    """
    file = folder / "scheduler_config.json"
    config = read_json(file)
    try:
        is_flow = str(config.get("_class_name")).startswith("FlowMatch")
        return flow(config, tokens) if is_flow else ddpm(config)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def flow(config: dict[str, Any], tokens: int) -> Schedule:
    """The straight path, with the shift for so many tokens.

    Raises:
        ValueError: the configuration has another path, or a number is not one.
    """
    if config.get("invert_sigmas"):
        raise ValueError("invert_sigmas = True: must be False")
    shift = _number(config, "shift", 1.0)
    if config.get("use_dynamic_shifting"):
        least, most = _number(config, "base_shift", 0.5), _number(config, "max_shift", 1.15)
        few, many = _number(config, "base_image_seq_len", 256), _number(config, "max_image_seq_len", 4096)
        if few == many:
            raise ValueError(f"base_image_seq_len = max_image_seq_len = {quoted(few)}: must differ")
        mu = least + (most - least) * (tokens - few) / (many - few)
        shift = math.exp(mu) if config.get("time_shift_type", "exponential") == "exponential" else mu
    return Schedule(paths.Linear(), "velocity", lambda t: 1 - t, -1, shift)


def ddpm(config: dict[str, Any]) -> Schedule:
    """The path of a table of noise rates.

    Raises:
        ValueError: it, or what the network predicts, is not known; the message names the entry.
    """
    steps = _number(config, "num_train_timesteps", 1000)
    if steps != int(steps) or not 1 <= steps <= MOST:
        raise ValueError(f"num_train_timesteps = {quoted(steps)}: must be from 1 to {MOST}")
    kind = config.get("prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise ValueError(f"prediction_type = {quoted(kind)}: must be one of {', '.join(PREDICTIONS)}")
    betas = noise_rates(config, int(steps))
    n = len(betas)
    # Timestep k is our t = 1 - (k + 1) / n.
    return Schedule(
        paths.DDPM(jnp.asarray(betas, jnp.float32)), PREDICTIONS[kind], lambda t: (n * (1 - t) - 1) / 1000
    )


def noise_rates(config: dict[str, Any], steps: int) -> Float[np.ndarray, " n"]:
    """The table of a DDPM, the least noise first.

    Raises:
        ValueError: its kind is unknown, or a number is not one.
    """
    kind = config.get("beta_schedule")
    first, last = _number(config, "beta_start", 1e-4), _number(config, "beta_end", 0.02)
    if config.get("trained_betas") is not None:
        betas = np.asarray(config["trained_betas"], np.float64)
    elif kind == "linear":
        betas = np.linspace(first, last, steps)
    elif kind == "scaled_linear":
        betas = np.linspace(first**0.5, last**0.5, steps) ** 2
    elif kind == "squaredcos_cap_v2":
        signal = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - signal[1:] / signal[:-1], 0.999)
    else:
        raise ValueError(
            f"beta_schedule = {quoted(kind)}: must be linear, scaled_linear or squaredcos_cap_v2"
        )
    if betas.ndim != 1 or not len(betas) or not np.all((betas > 0) & (betas < 1)):
        raise ValueError("its noise rates must be numbers between 0 and 1")
    return _without_signal_at_the_end(betas) if config.get("rescale_betas_zero_snr") else betas


def _without_signal_at_the_end(betas: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Zero terminal SNR. Source: Lin et al. 2305.08891, algorithm 1."""
    alpha = np.sqrt(np.cumprod(1 - betas))
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    squares = alpha**2
    return 1 - np.concatenate([squares[:1], squares[1:] / squares[:-1]])


def _number(config: dict[str, Any], name: str, default: float | int) -> float | int:
    found = config.get(name, default)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < math.inf:
        raise ValueError(f"{name} = {quoted(found)}: must be a positive number")
    return found
