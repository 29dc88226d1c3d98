import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close

from jaxflow import paths, times
from jaxflow.runs import rules
from jaxflow.runs.generation import check_scale
from jaxflow.runs.sampler import ANCESTRAL, ODE, SDE, Sampler, check_grid

PATH = paths.Linear()


@pytest.mark.parametrize("name", ["heun", "rk4"])
def test_predicted_data_do_not_go_with_solvers_that_evaluate_the_velocity_at_the_end(name):
    with pytest.raises(ValueError, match=f"solver = '{name}': it evaluates the velocity at t = 1"):
        Sampler(solver=name).check(PATH, "data")
    Sampler().check(PATH, "data")
    Sampler(solver=name).check(PATH, "noise")


def test_the_defaults_depend_on_the_prediction():
    assert Sampler().solver_name("velocity") == "heun"
    assert Sampler().solver_name("data") == "dpm_solver_2m"
    assert Sampler().solver_name("velocity", sigma=0.5) == "euler_maruyama"
    assert Sampler(solver="stochastic_heun").solver_name("velocity", sigma=0.5) == "stochastic_heun"
    assert_close(Sampler(4).times(PATH, "velocity"), times.uniform(4), 0.0)
    assert_close(Sampler(4).times(PATH, "data"), times.uniform(4), 0.0)
    assert_close(Sampler(4).times(PATH, "noise")[1:], times.karras(4, PATH)[1:], 0.0)
    assert_close(Sampler(4, grid="cosine").times(PATH, "data"), times.cosine(4), 0.0)
    assert_close(Sampler(4, shift=3.0).times(PATH, "velocity"), times.shifted(4, 3.0), 1e-6)


@pytest.mark.parametrize(
    ("options", "sigma", "says"),
    [
        ({"steps": 0}, 0.0, "steps = 0: must be at least 1"),
        ({"steps": -1}, 0.0, "steps = -1: must be at least 1"),
        ({"steps": 10**9}, 0.0, "steps = 1000000000: must be at most 100000"),
        ({"steps": 10**18}, 0.0, "steps = 1000000000000000000: must be at most 100000"),
        ({"steps": 10**5000}, 0.0, "steps = an integer of 16610 bits: must be at most 100000"),
        ({"solver": "rk5"}, 0.0, "solver = 'rk5': must be one of euler, "),
        ({"solver": "x" * 10**6}, 0.0, r"solver = 'xx.*xx\.\.\.: must be one of euler, "),
        ({"solver": ""}, 0.0, "solver = '': must be one of euler, "),
        ({"grid": ""}, 0.0, "grid = '': must be one of uniform, "),
        ({"grid": "log"}, 0.0, "grid = 'log': must be one of uniform, "),
        ({"shift": 0.0}, 0.0, "shift = 0.0: must be positive and finite"),
        ({"shift": float("nan")}, 0.0, "shift = nan: must be positive and finite"),
        ({"shift": 1e-300}, 0.0, "shift = 1e-300: must be from 0.001 to 1000"),
        ({"shift": 1e300}, 0.0, "shift = 1e[+]300: must be from 0.001 to 1000"),
        ({"block": 0}, 0.0, "block = 0: must be at least 1"),
        ({"block": 10**9}, 0.0, "block = 1000000000: must be at most 65536"),
        ({}, -1.0, "sigma = -1.0: must be non-negative and finite"),
        ({}, float("nan"), "sigma = nan: must be non-negative and finite"),
        ({}, float("inf"), "sigma = inf: must be non-negative and finite"),
        ({}, 1e30, "sigma = 1e[+]30: must be at most 1000"),
        (
            {"solver": "heun"},
            0.5,
            "sigma = 0.5: 'heun' is not a solver of the SDE; use one of euler_maruyama",
        ),
        ({"churn": -1.0}, 0.0, "churn = -1.0: must be non-negative and finite"),
        (
            {"churn": 40.0, "solver": "unipc"},
            0.0,
            "churn = 40: goes with euler, midpoint, heun, rk4, not with",
        ),
        ({"churn": 40.0}, 0.5, "churn = 40: goes with euler, .*, not with 'euler_maruyama'"),
        ({"clip": "hard", "solver": "euler"}, 0.0, "clip = 'hard': must be one of static, dynamic"),
        (
            {"clip": "static"},
            0.0,
            "solver = 'heun': .* where the clipped data leave it undefined; use one of",
        ),
        ({"clip": "static", "solver": "jump"}, 0.0, "clip = 'static': a map jumps"),
        ({"interval": (0.8, 0.2)}, 0.0, "interval = 0.8 0.2: must be a start and a later end within"),
        ({"interval": (0.2, float("nan"))}, 0.0, "interval = 0.2 nan: must be a start and a later end"),
        ({"interval": (0.6, 0.8), "solver": "jump"}, 0.0, "interval = 0.6 0.8: a map was trained for"),
        ({"solver": "ddpm"}, 0.5, "sigma = 0.5: 'ddpm' is not a solver of the SDE"),
    ],
)
def test_an_unusable_sampler_is_rejected(options, sigma, says):
    with pytest.raises(ValueError, match=f"^{says}") as rejected:
        Sampler(**options).check(PATH, "velocity", sigma)
    assert len(str(rejected.value)) < 300


@pytest.mark.parametrize(
    ("sampler", "fails"),
    [
        (Sampler(1000), False),
        (Sampler(1000, grid="cosine"), False),
        (Sampler(1000, grid="karras"), False),
        (Sampler(100, shift=1000.0), False),
        (Sampler(20_000, grid="cosine"), True),
        (Sampler(100_000, shift=0.001), True),
    ],
)
def test_steps_of_no_length_are_rejected(sampler, fails):
    """Float32 has no times between 1 - 2^-24 and 1."""
    grid = sampler.times(PATH, "velocity")
    if fails:
        with pytest.raises(ValueError, match=f"steps = {sampler.steps}: some times of the grid coincide"):
            check_grid("heun", PATH, grid)
    else:
        check_grid("dpm_solver_2m", PATH, grid)


@pytest.mark.parametrize("name", [*ODE, *SDE, *ANCESTRAL])
def test_every_solver_serves_a_network_of_the_velocity(name):
    Sampler(solver=name).check(PATH, "velocity", 0.5 if name in SDE else 0.0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("magic", "rule = 'magic': must be one of classifier_free, increasing"),
        ("autoguidance", "requires a less trained run on the same data, --worse RUN"),
        ("classifier", "requires a classifier of noisy images"),
        ("skipped_layers", "requires the network of a field"),
        ("internal", "requires a network with an auxiliary head"),
    ],
)
def test_a_rule_that_cannot_guide_is_rejected(name, says):
    with pytest.raises(ValueError, match=says):
        rules.check(name, worse=False, log_prob=False, network=False, head=False)


@pytest.mark.requirement("R38")
@pytest.mark.parametrize(("eta", "w", "says"), [(0.0, 2.0, "only w = 1"), (1.0, 1.0, "only w = 0")])
def test_a_scale_without_a_trained_field_is_rejected(eta, w, says):
    with pytest.raises(ValueError, match=says):
        check_scale("rescaled", eta, w)
    check_scale("rescaled", eta, 1.0 if eta == 0 else 0.0)
    # Autoguidance needs no field at null, a classifier guides that field alone.
    needless, needing = ("autoguidance", "classifier") if eta == 0 else ("classifier", "autoguidance")
    check_scale(needless, eta, 2.0)
    with pytest.raises(ValueError, match=says):
        check_scale(needing, eta, 1.0)
    # CFG++ adds the unguided noise again for every w.
    with pytest.raises(ValueError, match="only w = "):
        check_scale("plus_plus", eta, 1.0)


@pytest.mark.parametrize("w", [float("nan"), float("inf"), -float("inf"), 1e39])
def test_scales_are_finite_in_float32(w):
    with pytest.raises(ValueError, match=r"the guidance scale must be finite, less than 1e\+38"):
        check_scale("classifier_free", 0.1, w)


def test_on_a_table_of_noise_rates_the_grid_is_that_of_its_timesteps():
    """The trailing ones of diffusers, 999 to 99. Stable Diffusion has at most 15 times as much noise."""
    path = paths.DDPM(jnp.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    grid = Sampler(10).times(path, "noise")
    assert_close(1000 * (1 - grid[:-1]) - 1, np.arange(999, 0, -100), 1e-3)
    for sampler in (Sampler(10), Sampler(10, grid="karras")):
        check_grid("dpm_solver_2m", path, sampler.times(path, "noise"))
