import dataclasses
import json
from importlib import import_module
from pkgutil import iter_modules

import flax.linen as linen
import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close

from jaxflow.runs import generation
from experiments import presets
from jaxflow.runs.configuration import Experiment, decode, differences, encode, fitted
from jaxflow.runs.objective import LARGEST_WEIGHT, guided_loss
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import Sampler
from jaxflow import losses, paths, times
from jaxflow.data.conditions import Captions, Classes
from jaxflow.data.images import to_float

NAMES = [module.name for module in iter_modules(presets.__path__)]


def preset(name) -> Experiment:
    return import_module(f"experiments.presets.{name}").experiment()


def test_there_are_the_presets():
    assert set(NAMES) == {"digits", "folder", "mnist", "shapes", "shapes_dit"}


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_survives_json(name):
    assert decode(json.loads(json.dumps(encode(preset(name))))) == preset(name)
    preset(name).check()


CLASSES, CAPTIONS = Classes(("a", "b")), Captions(("red", "circle"), 4)


@pytest.mark.parametrize(
    ("name", "shape", "condition"),
    [
        ("digits", (8, 8, 1), CLASSES),
        ("mnist", (28, 28, 1), CLASSES),
        ("shapes", (32, 32, 3), CAPTIONS),
        ("shapes_dit", (32, 32, 3), CAPTIONS),
        ("folder", (64, 64, 3), CLASSES),
        ("folder", (64, 64, 3), CAPTIONS),
    ],
)
def test_a_preset_fits_its_images(name, shape, condition):
    run = Run(fitted(preset(name), condition), "", shape, condition)
    params = jax.eval_shape(run.initial_params, jax.random.key(0))
    x, t = jnp.zeros((2, *shape)), jnp.zeros(2)
    y = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), condition.null)
    assert jax.eval_shape(lambda params: run.field(params)(x, t, y), params).shape == x.shape
    assert decode(json.loads(json.dumps(encode(run.experiment)))) == run.experiment


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", -1.0),
        ("condition_dropout", 1.5),
        ("condition_dropout", float("nan")),
        ("ema", -0.1),
        ("seed", -1),
    ],
)
def test_numbers_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field} = "):
        dataclasses.replace(preset("digits"), **{field: value}).check()


def test_only_what_a_continued_run_must_keep_is_a_difference():
    old = preset("digits")
    new = dataclasses.replace(old, steps=1, batch_size=7, learning_rate=0.5)
    assert differences(old, new) == [f"batch_size was {old.batch_size} and is 7"]


def test_a_configuration_builds_nothing_but_its_own_classes():
    with pytest.raises(KeyError):
        decode({"class": "Popen", "args": ["true"]})


@pytest.mark.parametrize(
    "path", [paths.DDPM(jnp.linspace(1e-4, 0.02, 10)), paths.from_functions(lambda t: t, lambda t: 1 - t)]
)
def test_what_could_not_be_read_again_is_not_written(path):
    with pytest.raises(ValueError, match=r"cannot be written to config\.json"):
        encode(dataclasses.replace(preset("digits"), path=path))


@pytest.mark.parametrize("name", ["heun", "rk4"])
def test_a_network_of_the_data_is_not_asked_for_its_velocity_at_the_end(name):
    trained = dataclasses.replace(preset("digits"), prediction="data")
    with pytest.raises(ValueError, match=f"solver = '{name}': it asks for the velocity at t = 1"):
        generation.check(trained, [1.0], Sampler(solver=name), per_label=1)
    generation.check(trained, [1.0], Sampler(), per_label=1)


def test_what_a_sampler_leaves_out_is_chosen_by_what_the_network_predicts():
    of_velocity, of_data = (dataclasses.replace(preset("digits"), prediction=p) for p in ("velocity", "data"))
    assert Sampler().method(of_velocity).evaluations == 2
    assert Sampler().method(of_data).evaluations == 1
    assert_close(Sampler(4).times(of_velocity), times.uniform(4), 0.0)
    assert_close(Sampler(4).times(of_data), times.karras(4, of_data.path), 0.0)
    assert_close(Sampler(4, grid="cosine").times(of_data), times.cosine(4), 0.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": 0}, "steps = 0: a sampler needs at least 1 step"),
        ({"solver": "rk5"}, "solver = 'rk5': there are euler, "),
        ({"grid": "log"}, "grid = 'log': there are uniform, "),
    ],
)
def test_an_unusable_sampler_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        generation.check(preset("digits"), [1.0], Sampler(**options), per_label=1)


@pytest.mark.parametrize("prediction", ["velocity", "data"])
def test_the_loss_of_the_data_is_that_of_the_velocity_they_stand_for(prediction, standard_promotion):
    """Up to its largest weight; beyond it is smaller."""

    class Constant(linen.Module):
        encode: None = None

        @linen.compact
        def __call__(self, x, t, y, *, train):
            del t, y, train
            return self.param("value", lambda key: jnp.full(x.shape[1:], 0.3))[None] * jnp.ones_like(x)

    experiment = dataclasses.replace(preset("digits"), network=Constant(), prediction=prediction)
    run = Run(experiment, "", (2, 2, 1), Classes(("a", "b")))
    images = jnp.arange(4 * 256).astype(jnp.uint8).reshape(256, 2, 2, 1)
    batch = {"image": images, "y": jnp.zeros(256, jnp.int32), "place": jnp.arange(256)}
    params = {"value": jnp.full((2, 2, 1), 0.3)}
    loss = guided_loss(run)(params, jax.random.key(5), batch)

    field, data = run.field(params), to_float(batch["image"])
    _, match_key, _ = jax.random.split(jax.random.key(5), 3)
    times_seen = []

    def seen(x, t, y):
        times_seen.append(t)
        return field(x, t, y)

    expected = losses.flow_matching(match_key, seen, experiment.path, data, batch["y"]) / 4
    early = 1 / (1 - times_seen[0]) ** 2 < LARGEST_WEIGHT
    assert 0.6 < float(jnp.mean(early)) < 0.8
    assert_close(jnp.where(early, loss / expected, 1), jnp.ones(256), 1e-3)
    if prediction == "data":
        assert bool(jnp.all(jnp.where(early, True, loss < expected)))


@pytest.mark.requirement("R38")
@pytest.mark.parametrize(("eta", "w", "says"), [(0.0, 2.0, "only w = 1"), (1.0, 1.0, "only w = 0")])
def test_a_scale_that_the_training_left_no_model_for_is_refused(eta, w, says):
    trained = dataclasses.replace(preset("digits"), condition_dropout=eta)
    with pytest.raises(ValueError, match=says):
        generation.check(trained, [w], Sampler(), per_label=1)
    generation.check(trained, [1.0 if eta == 0 else 0.0], Sampler(), per_label=1)
