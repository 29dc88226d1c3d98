"""Paths from the configurations of diffusers' schedulers, against their tables."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Lazy, assert_close

from jaxflow.pretrained import schedulers

diffusers = Lazy("diffusers")

pytestmark = pytest.mark.requirement("R58")


@pytest.mark.parametrize(
    ("kind", "options", "prediction"),
    [
        ("DDIMScheduler", {}, "noise"),
        (
            "PNDMScheduler",
            {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
            "noise",
        ),
        ("DDPMScheduler", {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 500}, "noise"),
        ("DDIMScheduler", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}, "v"),
        ("DDPMScheduler", {"trained_betas": [0.01, 0.02, 0.5], "prediction_type": "sample"}, "data"),
    ],
)
def test_a_table_is_that_of_diffusers(kind, options, prediction, tmp_path):
    theirs = getattr(diffusers, kind)(**options)
    theirs.save_pretrained(tmp_path)
    found = schedulers.read(tmp_path)
    n = len(theirs.alphas_cumprod)
    assert (found.prediction, found.steps) == (prediction, n)
    t = jnp.asarray(1 - (np.arange(n) + 1) / n, jnp.float32)
    assert_close(found.path.alpha(t), theirs.alphas_cumprod.numpy() ** 0.5, 1e-4)


@pytest.mark.parametrize("kind", ["FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler"])
def test_a_schedule_without_a_table_is_rejected(kind, tmp_path):
    getattr(diffusers, kind)().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"scheduler_config\.json: .* must be"):
        schedulers.read(tmp_path)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule = 'sigmoid': must be linear, scaled_linear"),
        (
            {"prediction_type": "flow_prediction"},
            "prediction_type = 'flow_prediction': must be one of epsilon",
        ),
        ({"num_train_timesteps": 10**9}, "num_train_timesteps = 1000000000: must be from 1 to 100000"),
        ({"beta_end": "all"}, "beta_end = 'all': must be a positive number"),
        ({"beta_end": 3.0}, "its noise rates must be numbers between 0 and 1"),
    ],
)
def test_another_schedule_is_rejected(config, says, tmp_path):
    config = {"beta_schedule": "linear"} | config
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=says):
        schedulers.read(tmp_path)
