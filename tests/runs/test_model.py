"""A model as one value: opened from a folder or a file, drawn with by every rule and solver."""

import dataclasses
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, disturbed

from experiments.presets import digits
from jaxflow import Model, guidance, load, paths, spaces
from jaxflow.data.codecs import Captions, Classes
from jaxflow.devices import layouts
from jaxflow.predictions import convert
from jaxflow.runs import folder, rules
from jaxflow.runs.configuration import fitted
from jaxflow.runs.generation import Generator
from jaxflow.runs.model import KEPT
from jaxflow.runs.objective import optimizer_of
from jaxflow.runs.requests import request
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import ANCESTRAL, ODE, SDE, Sampler
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.step import initial_state

CODEC = Classes(("zero", "one", "two"))
SPACE = spaces.Pixels((4, 4, 1))


def network(params, x, t, y):
    """Pulls x towards a level of its class; fast to compile."""
    return params[y][:, None, None, None] - x


def model(**options):
    numbers = {"path": paths.Linear(), "prediction": "velocity", "codec": CODEC, "space": SPACE} | options
    return Model(network, jnp.array([-0.5, 0.0, 0.5, 0.1]), **numbers)


def log_prob(x, t, y):
    return -jnp.mean((x - y[:, None, None, None] / 4) ** 2, axis=(1, 2, 3))


@pytest.mark.parametrize("solver", [*ODE, *SDE, *ANCESTRAL])
def test_every_rule_goes_with_every_solver(solver):
    """By the scripts' generator; at w = 1 every rule but the classifier's is the conditional model."""
    wanted, sigma = request(CODEC, [0, 1]), 0.5 if solver in SDE else 0.0
    here, sampler = layouts.on_one_device(), Sampler(steps=2, solver=solver)
    alone = {}
    for name in rules.RULES:
        generate = Generator(model(), sampler, here, name, sigma, worse=model(), log_prob=log_prob)
        images = generate.sweep(wanted, [1.0, 2.0], [sigma], seed=3, chunk=2)
        assert images.shape == (2, 1, 2, 4, 4, 1)
        alone[name] = images[:, 0].astype(int)
        if name not in ("classifier", "classifier_free", "zero_star"):
            assert np.abs(alone[name][0] - alone["classifier_free"][0]).max() <= 1
    assert (alone["classifier_free"][0] != alone["classifier_free"][1]).any()


def test_an_image_depends_on_what_it_shows_and_on_its_place_among_the_like():
    made = model()
    page = made.sample(7, ["one", "one", "two", None, "one"], w=2.0)
    np.testing.assert_array_equal(made.sample(7, ["one"] * 3, w=2.0), page[[0, 1, 4]])
    np.testing.assert_array_equal(made.sample(7, [2, 1], w=2.0), page[[2, 0]])
    np.testing.assert_array_equal(made.sample(7, [1, 1, 2, None, 1], w=2.0, together=2), page)
    over_devices = made.sample(7, [1, 1, 2, None, 1], w=2.0, sharding=layouts.over_examples())
    assert np.abs(over_devices.astype(int) - page).max() <= 1
    assert (page[0] != page[1]).any()
    assert (made.sample(8, ["one"], w=2.0)[0] != page[0]).any()


def test_the_noise_is_the_same_for_every_scale():
    """And the row without a class does not depend on w."""
    made = model()
    at_0, at_3 = (made.sample(7, [None, "two"], w=w) for w in (0.0, 3.0))
    np.testing.assert_array_equal(at_0[0], at_3[0])
    assert (at_0[1] != at_3[1]).any()


def test_what_a_model_knows():
    made = model()
    assert (made.event_shape, int(made.null), made.classes) == ((4, 4, 1), 3, CODEC.names)
    assert made.encode(["two", 0, None]).tolist() == [2, 0, 3]
    x = jnp.full((3, 4, 4, 1), 0.25)
    velocity = made.field(x, jnp.zeros(3), made.encode(["two", 0, None]))
    assert_close(velocity[:, 0, 0, 0], jnp.array([0.25, -0.75, -0.15]), 1e-6)
    assert made.to_images(x).dtype == jnp.uint8
    negative = made.sample(0, ["two"], w=3.0, negative="zero")
    assert negative.mean() > made.sample(0, ["two"], w=3.0).mean()


@pytest.mark.parametrize("prediction", ["noise", "score", "data", "v"])
@pytest.mark.parametrize(
    "options", [{}, {"solver": "midpoint", "grid": "uniform"}, {"sigma": 0.3, "grid": "uniform"}]
)
def test_a_network_of_anything_draws_what_the_velocity_draws(prediction, options):
    """The same field by its velocity and by another prediction: all but the noise of the first instant."""
    made = model()

    def other(params, x, t, y):
        velocity = network(params, x, t, y)
        return convert(paths.Linear(), x, t, velocity, source="velocity", target=prediction)

    another = dataclasses.replace(made, network=other, prediction=prediction)
    options = {"solver": "dpm_solver_2m", "grid": "karras"} | options if not options.get("sigma") else options
    images = [one.sample(3, [0, 2], w=2.0, steps=60, **options).astype(int) for one in (made, another)]
    assert np.abs(images[0] - images[1]).max() <= (12 if options.get("sigma") else 4)


def test_a_rule_of_ones_own():
    made = model()
    own = lambda field, y, null, w: guidance.classifier_free(field, y, null, w)  # noqa: E731
    np.testing.assert_array_equal(made.sample(0, [1], w=2.0, rule=own), made.sample(0, [1], w=2.0))


def test_a_program_is_compiled_once_for_all_scales():
    made = model()
    for w in (1.5, 2.0, 2.5):
        made.sample(0, [0, 1], w=w, steps=3)
    (generator,) = made._generators.values()
    assert generator._any_scale._cache_size() == 1


def test_arrays_are_classes_too_and_few_programs_are_kept():
    made = model()
    by_list = made.sample(7, [1, 2], w=2.0)
    for y in (np.array([1, 2]), jnp.array([1, 2])):
        np.testing.assert_array_equal(made.sample(7, y, w=2.0), by_list)
    for steps in range(1, 12):
        made.sample(
            0, [0], steps=steps, rule=guidance.rescaled(), together=1
        ) if steps < 3 else made._generator(Sampler(steps), layouts.on_one_device())
    assert len(made._generators) == KEPT


def test_a_worse_model_of_another_path_is_refused():
    here = layouts.on_one_device()
    with pytest.raises(ValueError, match="worse: it was trained on the path Cosine"):
        Generator(model(), Sampler(), here, "autoguidance", worse=model(path=paths.Cosine()))
    Generator(model(), Sampler(), here, "autoguidance", worse=model(path=paths.Linear()))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"w": float("nan")}, "w = nan: the guidance scale must be finite"),
        ({"rule": "magic"}, "rule = 'magic': there are classifier_free"),
        ({"rule": "autoguidance"}, "it needs a worse model"),
        ({"solver": "rk5"}, "solver = 'rk5': there are euler"),
        ({"steps": 0}, "steps = 0: at least 1"),
        ({"sigma": 0.5, "solver": "heun"}, "sigma = 0.5: the solver 'heun' is not of the SDE"),
        ({"y": ["three"]}, "label = 'three': the classes are 0 zero, 1 one, 2 two"),
        ({"y": [3]}, "label = 3: the classes are"),
        ({"y": []}, "y = \\[\\]: a list is needed"),
        ({"y": "12"}, "y = '12': a list is needed"),
        ({"seed": -1}, "seed = -1: a number from 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, says):
    arguments = {"seed": 0, "y": [0]} | options
    with pytest.raises(ValueError, match=says):
        model().sample(**arguments)


def test_prompts_are_read_as_captions_were():
    captions = Captions(("red", "blue"), 3)
    made = Model(
        lambda params, x, t, y: params[y[:, 0]][:, None, None, None] - x,
        *(jnp.array([0.1, 0.0, 0.5, -0.5]), paths.Linear(), "velocity", captions, SPACE),
    )
    page = made.sample(0, ["red", "blue", "red"])
    np.testing.assert_array_equal(made.sample(0, ["blue", " red  "]), page[[1, 0]])
    with pytest.raises(ValueError, match="no caption has the word 'green'"):
        made.sample(0, ["green"])
    with pytest.raises(ValueError, match="captions, not classes"):
        _ = made.classes


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A run folder and an exported file of one network."""
    root = tmp_path_factory.mktemp("models")
    small = digits.experiment().network.clone(width=16, depth=1, heads=2)
    codec = Classes(tuple("0123456789"))
    experiment = fitted(dataclasses.replace(digits.experiment(), network=small), codec)
    run = Run(experiment, "", spaces.Pixels((8, 8, 1)), codec)
    params = disturbed(run.initial_params(jax.random.key(0)))
    (root / "run").mkdir()
    folder.store(root / "run", run)
    with Checkpoints(root / "run" / "checkpoints") as checkpoints:
        checkpoints.save(initial_state(params, optimizer_of(experiment)))
    folder.export(root / "model.safetensors", run, params, 0)
    return root


ALONE = """
import sys
sys.modules["experiments"] = None  # as where the wheel alone is installed
import jaxflow, numpy
for place in ("run", "model.safetensors"):
    numpy.save(f"{place}.npy", jaxflow.load(place).sample(0, [3, 3, 7], w=2.0, steps=2))
"""


def test_the_library_alone_opens_and_draws(places, tmp_path):
    """From the run folder and from the file, in another process, what the scripts draw."""
    from experiments import sample

    shutil.copytree(places / "run", tmp_path / "run")
    shutil.copy(places / "model.safetensors", tmp_path)
    subprocess.run([sys.executable, "-P", "-c", ALONE], cwd=tmp_path, check=True, timeout=300)
    options = ["--w", "2", "--labels", "3", "7", "--per-label", "2", "--steps", "2", "--parallel", "jit"]
    sample.main([str(tmp_path / "run"), *options])
    by_script = np.load(tmp_path / "run" / "samples" / "w=2.npz")["images"][:3].astype(int)
    for name in ("run", "model.safetensors"):
        assert np.abs(np.load(tmp_path / f"{name}.npy").astype(int) - by_script).max() <= 1


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist: the folder of a run is needed"):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        load(str(tmp_path))
