"""Paths from the configurations of diffusers' schedulers, against their tables."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Lazy, assert_close

from jaxflow import paths, times
from jaxflow.pretrained import schedulers

diffusers, flux = Lazy("diffusers"), Lazy("diffusers.pipelines.flux.pipeline_flux")

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
    found = schedulers.read(tmp_path, tokens=1)
    n = len(theirs.alphas_cumprod)
    assert (found.prediction, found.sign, found.shift) == (prediction, 1, 1.0)
    t = jnp.asarray(1 - (np.arange(n) + 1) / n, jnp.float32)
    assert_close(1000 * found.time(t), np.arange(n), 1e-3)
    assert_close(found.path.alpha(t), theirs.alphas_cumprod.numpy() ** 0.5, 1e-4)


@pytest.mark.parametrize(
    "options",
    [{"shift": 3.0}, {"use_dynamic_shifting": True, "base_shift": 0.6}, {"time_shift_type": "linear"}],
)
def test_the_time_grid_of_a_flow_is_that_of_diffusers(options, tmp_path):
    """A shift that depends on the size of the image is that of a pipeline, for 1,024 tokens."""
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(**options)
    theirs.save_pretrained(tmp_path)
    found = schedulers.read(tmp_path, tokens=1024)
    arguments = {"sigmas": np.linspace(1, 0.1, 10)}
    if theirs.config.use_dynamic_shifting:
        arguments["mu"] = flux.calculate_shift(1024, base_shift=0.6)
    theirs.set_timesteps(**arguments)
    assert_close(times.shifted(times.uniform(10), found.shift), 1 - theirs.sigmas.numpy(), 1e-6)
    assert (found.path, found.prediction, found.sign) == (paths.Linear(), "velocity", -1)
    assert found.time(jnp.float32(0.25)) == 0.75


def test_a_schedule_without_a_table_is_rejected(tmp_path):
    diffusers.EDMEulerScheduler().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"scheduler_config\.json: beta_schedule = None: must be"):
        schedulers.read(tmp_path, tokens=1)


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
        (
            {"_class_name": "FlowMatchHeunDiscreteScheduler", "invert_sigmas": True},
            "invert_sigmas = True: must be False",
        ),
        (
            {"_class_name": "FlowMatch", "use_dynamic_shifting": True, "max_image_seq_len": 256},
            "base_image_seq_len = max_image_seq_len = 256: must differ",
        ),
        ({"_class_name": "FlowMatch", "shift": 0}, "shift = 0: must be a positive number"),
        ({"beta_end": 3.0}, "its noise rates must be numbers between 0 and 1"),
    ],
)
def test_another_schedule_is_rejected(config, says, tmp_path):
    config = {"beta_schedule": "linear"} | config
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=says):
        schedulers.read(tmp_path, tokens=1)
