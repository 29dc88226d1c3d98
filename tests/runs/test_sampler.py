import pytest
from conftest import assert_close

from jaxflow import paths, times
from jaxflow.runs import rules
from jaxflow.runs.generation import check_scale
from jaxflow.runs.sampler import ANCESTRAL, ODE, SDE, Sampler

PATH = paths.Linear()


@pytest.mark.parametrize("name", ["heun", "rk4"])
def test_a_network_of_the_data_is_not_asked_for_its_velocity_at_the_end(name):
    with pytest.raises(ValueError, match=f"solver = '{name}': it asks for the velocity at t = 1"):
        Sampler(solver=name).check(PATH, "data")
    Sampler().check(PATH, "data")
    Sampler(solver=name).check(PATH, "noise")


def test_what_a_sampler_leaves_out_is_chosen_by_what_the_network_predicts():
    assert Sampler().solver_name("velocity") == "heun"
    assert Sampler().solver_name("data") == "dpm_solver_2m"
    assert Sampler().solver_name("velocity", sigma=0.5) == "euler_maruyama"
    assert Sampler(solver="stochastic_heun").solver_name("velocity", sigma=0.5) == "stochastic_heun"
    assert_close(Sampler(4).times(PATH, "velocity"), times.uniform(4), 0.0)
    assert_close(Sampler(4).times(PATH, "data"), times.karras(4, PATH), 0.0)
    assert_close(Sampler(4, grid="cosine").times(PATH, "data"), times.cosine(4), 0.0)
    assert_close(Sampler(4, shift=3.0).times(PATH, "velocity"), times.shifted(4, 3.0), 1e-6)


@pytest.mark.parametrize(
    ("options", "sigma", "says"),
    [
        ({"steps": 0}, 0.0, "steps = 0: at least 1 is needed"),
        ({"solver": "rk5"}, 0.0, "solver = 'rk5': there are euler, "),
        ({"grid": "log"}, 0.0, "grid = 'log': there are uniform, "),
        ({"shift": 0.0}, 0.0, "shift = 0.0: a positive, finite number is needed"),
        ({"together": 0}, 0.0, "together = 0: at least 1 is needed"),
        ({}, -1.0, "sigma = -1.0: a finite number from 0 is needed"),
        (
            {"solver": "heun"},
            0.5,
            "sigma = 0.5: the solver 'heun' is not of the SDE; there are euler_maruyama",
        ),
        ({"solver": "ddpm"}, 0.5, "sigma = 0.5: the solver 'ddpm' is not of the SDE"),
    ],
)
def test_an_unusable_sampler_is_refused(options, sigma, says):
    with pytest.raises(ValueError, match=says):
        Sampler(**options).check(PATH, "velocity", sigma)


@pytest.mark.parametrize("name", [*ODE, *SDE, *ANCESTRAL])
def test_every_solver_serves_a_network_of_the_velocity(name):
    Sampler(solver=name).check(PATH, "velocity", 0.5 if name in SDE else 0.0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("magic", "rule = 'magic': there are classifier_free, interval"),
        ("autoguidance", "needs a worse model"),
        ("classifier", "needs a classifier of noisy images"),
    ],
)
def test_a_rule_that_cannot_guide_is_refused(name, says):
    with pytest.raises(ValueError, match=says):
        rules.check(name, worse=False, log_prob=False)


@pytest.mark.requirement("R38")
@pytest.mark.parametrize(("eta", "w", "says"), [(0.0, 2.0, "only w = 1"), (1.0, 1.0, "only w = 0")])
def test_a_scale_that_the_training_left_no_model_for_is_refused(eta, w, says):
    with pytest.raises(ValueError, match=says):
        check_scale("rescaled", eta, w)
    check_scale("rescaled", eta, 1.0 if eta == 0 else 0.0)
    # Autoguidance needs no field at null, a classifier guides that field alone.
    needless, needing = ("autoguidance", "classifier") if eta == 0 else ("classifier", "autoguidance")
    check_scale(needless, eta, 2.0)
    with pytest.raises(ValueError, match=says):
        check_scale(needing, eta, 1.0)
