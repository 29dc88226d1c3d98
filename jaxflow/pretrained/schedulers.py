"""The path of a published diffusion model, from its scheduler's configuration.

That is a table of noise rates: linear, scaled_linear, squaredcos_cap_v2, or its own numbers. Which solver the
configuration names does not matter: any solver here runs on any path.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxflow import paths
from jaxflow.predictions import Prediction
from jaxflow.pretrained.folders import read_json
from jaxflow.ranges import quoted

PREDICTIONS: dict[str, Prediction] = {"epsilon": "noise", "v_prediction": "v", "sample": "data"}
MOST = 100_000
"""Steps of a table."""


class Schedule(NamedTuple):
    """What a network was trained on."""

    path: paths.DDPM
    prediction: Prediction
    steps: int
    """Number of its timesteps."""


def read(folder: Path) -> Schedule:
    """The schedule of a folder with scheduler_config.json.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it describes a schedule that is not known; the message names the entry.
    """
    file = folder / "scheduler_config.json"
    config = read_json(file)
    try:
        steps = _number(config, "num_train_timesteps", 1000)
        if steps != int(steps) or not 1 <= steps <= MOST:
            raise ValueError(f"num_train_timesteps = {quoted(steps)}: must be from 1 to {MOST}")
        kind = config.get("prediction_type", "epsilon")
        if kind not in PREDICTIONS:
            raise ValueError(f"prediction_type = {quoted(kind)}: must be one of {', '.join(PREDICTIONS)}")
        betas = noise_rates(config, int(steps))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return Schedule(paths.DDPM(jnp.asarray(betas, jnp.float32)), PREDICTIONS[kind], len(betas))


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
