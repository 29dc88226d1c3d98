"""Time grids and distributions against diffusers, whose sigma is the noise level."""

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Lazy, assert_close
from jax.scipy.special import ndtr

from jaxflow import paths, times
from reference.exact import to_jax

torch, diffusers = Lazy("torch"), Lazy("diffusers")
training_utils = Lazy("diffusers.training_utils")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
def test_shifted_steps_are_those_of_sd3(shift):
    """In float32, as diffusers rounds. Like pipelines we pass the levels: its own end at 1 / 1000."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 10, 10))
    assert_close(times.shifted(10, shift), 1 - to_jax(scheduler.sigmas.double()), 1e-7)


@pytest.mark.parametrize("path", [paths.Linear(), paths.VariancePreserving()], ids=["linear", "vp"])
def test_karras_steps_are_those_of_diffusers(path):
    """Except the first, since we start from pure noise. In float32, as diffusers rounds."""
    scheduler = diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, sigma_min=0.02, sigma_max=80.0)
    scheduler.set_timesteps(12)
    t = times.karras(12, path, sigma_min=0.02, sigma_max=80.0)[1:]
    assert_close(path.beta(t) / path.alpha(t), to_jax(scheduler.sigmas.double())[1:], 1e-7)


@pytest.mark.parametrize("path", [paths.Linear(), paths.VariancePreserving()], ids=["linear", "vp"])
def test_exponential_steps_are_those_of_diffusers(path):
    """Except the first, since we start from pure noise. In float32, as diffusers rounds."""
    scheduler = diffusers.EulerDiscreteScheduler(use_exponential_sigmas=True, sigma_min=0.02, sigma_max=80.0)
    scheduler.set_timesteps(12)
    t = times.exponential(12, path, sigma_min=0.02, sigma_max=80.0)[1:]
    assert_close(path.beta(t) / path.alpha(t), to_jax(scheduler.sigmas.double())[1:], 1e-7)


def test_beta_steps_are_those_of_the_flow_scheduler_to_its_least_level():
    """From which it takes one more, to the data. In float32, as diffusers rounds."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_beta_sigmas=True)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 10, 10))
    levels = to_jax(scheduler.sigmas.double())
    assert_close((1 - levels[-2]) * times.beta_quantiles(9), 1 - levels[:-1], 1e-7)


def test_time_distributions_are_those_of_sd3():
    """For the same draws z and u; our mean is minus theirs."""

    def theirs(scheme, **numbers):
        generator = torch.Generator().manual_seed(0)
        density = training_utils.compute_density_for_timestep_sampling
        return density(scheme, 100, generator=generator, **numbers)

    z = to_jax(torch.randn(100, generator=torch.Generator().manual_seed(0)))
    t, _ = times.logit_normal_distribution(-0.3, 1.2)(ndtr(-z))
    assert_close(1 - t, to_jax(theirs("logit_normal", logit_mean=0.3, logit_std=1.2)), 1e-12)
    u = to_jax(torch.rand(100, generator=torch.Generator().manual_seed(0)))
    assert_close(1 - times.mode_distribution(1.29)(u)[0], to_jax(theirs("mode", mode_scale=1.29)), 1e-12)
    assert jnp.ptp(t) > 0.5
