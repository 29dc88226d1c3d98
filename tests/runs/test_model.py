"""A model as one value: loaded from a folder or a file, sampled with every rule and solver."""

import dataclasses
import shutil
import subprocess
import sys
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, disturbed, normal, random_params

from experiments.presets import digits
from jaxflow import Model, guidance, load, nn, paths, spaces, times
from jaxflow.data.codecs import Captions, Classes
from jaxflow.devices import mesh
from jaxflow.predictions import convert
from jaxflow.runs import folder, rules
from jaxflow.runs.configuration import fitted
from jaxflow.runs.generation import Generator
from jaxflow.runs.limits import check_images
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


MODEL = model()
"""For the tests that may share its compiled programs."""


def log_prob(x, t, y):
    return -jnp.mean((x - y[:, None, None, None] / 4) ** 2, axis=(1, 2, 3))


PAIRS = [
    # Every solver with a stateless rule and one with memory; every rule with a solver of each kind.
    *((solver, rule) for solver in (*ODE, *SDE, *ANCESTRAL) for rule in ("classifier_free", "projected")),
    *(
        (solver, rule)
        for solver in ("heun", "euler_maruyama")
        for rule in rules.RULES
        if rule not in (*rules.CHANGES, *rules.INTERNAL)  # this network has no blocks and no head
    ),
]


@cache
def swept(solver, rule):
    """Images at w = 1 and w = 2, with the scripts' generator."""
    sigma = 0.5 if solver in SDE else 0.0
    here, sampler = mesh.on_one_device(), Sampler(steps=2, solver=solver)
    generate = Generator(model(), sampler, here, rule, sigma, worse=model(), log_prob=log_prob)
    with jax.disable_jit():  # compiling would take longer than two steps
        images = generate.sweep(request(CODEC, [0, 1]), [1.0, 2.0], [sigma], seed=3, chunk=2)
    return images[:, 0].astype(int)


@pytest.mark.parametrize(("solver", "rule"), dict.fromkeys(PAIRS))
def test_every_rule_goes_with_every_solver(solver, rule):
    """At w = 1 a rule is the conditional model where `is_conditional` says so."""
    images, plain = swept(solver, rule), swept(solver, "classifier_free")
    assert images.shape == (2, 2, 4, 4, 1)
    assert (plain[0] != plain[1]).any()
    if rules.is_conditional(rule, 1.0, 2):
        assert np.abs(images[0] - plain[0]).max() <= 1
    assert not rules.is_conditional(rule, 2.0, 2)


def test_churn_and_clip_reach_the_images():
    """Each changes those of a model whose predicted data go beyond the pixels; the w of both is 1."""

    def drawn(**options):
        bright = dataclasses.replace(model(), params=jnp.array([-1.5, 0.0, 1.5, 0.1]))
        sampler = Sampler(steps=2, solver="euler", **options)
        generate = Generator(bright, sampler, mesh.on_one_device())
        with jax.disable_jit():
            return generate(request(CODEC, [0, 2]), 1.0, seed=3)

    plain = drawn()
    for options in ({"churn": 0.8}, {"clip": "static"}, {"clip": "dynamic"}):
        assert (drawn(**options) != plain).any(), options


def test_a_network_guides_away_from_itself_with_a_block_changed():
    """u + (w - 1) (u - u_changed); a network without blocks is refused."""
    network = nn.DiT(nn.ClassTable(3), width=8, depth=1, heads=2, mlp_ratio=1)
    x, t, y = normal(1, 4, 4, 1), jnp.zeros(1), jnp.array([1])
    of_blocks = dataclasses.replace(MODEL, network=network, params=random_params(network, x, t, y))
    here, sampler, rule = mesh.on_one_device(), Sampler(steps=1), "skipped_layers"
    generate = Generator(of_blocks, sampler, here, rule)
    guided = generate._rule(generate._guides(generate.params))(of_blocks.field, y, MODEL.null, 3.0)
    plain, worse = (model.field(x, t, y) for model in (of_blocks, of_blocks.changed(rules.CHANGES[rule])))
    assert_close(guided(x, t), plain + 2 * (plain - worse), 1e-5)
    assert jnp.max(jnp.abs(plain - worse)) > 1e-3
    for rule in rules.CHANGES:
        with pytest.raises(ValueError, match="no block with self-attention"):
            Generator(MODEL, sampler, here, rule)


def test_a_network_guides_away_from_its_auxiliary_head():
    """By the rule's w, or by 1.25 below classifier-free guidance; a network without a head is refused."""
    network = nn.DiT(nn.ClassTable(3), width=8, depth=2, heads=2, mlp_ratio=1, auxiliary=1)
    x, t, y = normal(1, 4, 4, 1), jnp.zeros(1), jnp.array([1])
    headed = dataclasses.replace(MODEL, network=network, params=random_params(network, x, t, y))
    here, sampler = mesh.on_one_device(), Sampler(steps=1)

    def guided(rule):
        generate = Generator(headed, sampler, here, rule)
        return generate._rule(generate._guides(generate.params))(headed.field, y, MODEL.null, 3.0)(x, t)

    def inside(y, w):
        auxiliary, final = headed.outputs(x, t, y)
        return auxiliary + w * (final - auxiliary)

    assert_close(guided("internal"), inside(y, 3.0), 1e-5)
    unguided = inside(jnp.asarray(MODEL.null)[None], 1.25)
    assert_close(guided("internal_classifier_free"), unguided + 3 * (inside(y, 1.25) - unguided), 1e-5)
    for rule in rules.INTERNAL:
        with pytest.raises(ValueError, match=f"rule = '{rule}': requires a network with an auxiliary head"):
            Generator(MODEL, sampler, here, rule)


def test_an_image_depends_on_its_condition_and_on_its_place_among_equal_ones():
    page = MODEL.sample(7, ["one", "one", "two", None, "one"], w=2.0)
    np.testing.assert_array_equal(MODEL.sample(7, ["one"] * 3, w=2.0), page[[0, 1, 4]])
    np.testing.assert_array_equal(MODEL.sample(7, [2, None, 1], w=2.0), page[[2, 3, 0]])
    np.testing.assert_array_equal(MODEL.sample(7, [1, 1, 2, None, 1], w=2.0, block=2), page)
    np.testing.assert_array_equal(MODEL.sample(7, ["one", 1], w=2.0, block=2**16), page[:2])
    over_devices = MODEL.sample(7, [1, 1, 2, None, 1], w=2.0, sharding=mesh.over_examples())
    assert np.abs(over_devices.astype(int) - page).max() <= 1
    assert (page[0] != page[1]).any()
    assert (MODEL.sample(8, ["one"], w=2.0)[0] != page[0]).any()


def test_the_noise_is_the_same_for_every_scale():
    """And the unconditional row does not depend on w."""
    at_0, at_3 = (MODEL.sample(7, [None, "two"], w=w) for w in (0.0, 3.0))
    np.testing.assert_array_equal(at_0[0], at_3[0])
    assert (at_0[1] != at_3[1]).any()


def test_the_parts_of_a_model():
    assert (MODEL.event_shape, int(MODEL.null), MODEL.classes) == ((4, 4, 1), 3, CODEC.names)
    assert MODEL.encode(["two", 0, None]).tolist() == [2, 0, 3]
    x = jnp.full((3, 4, 4, 1), 0.25)
    velocity = MODEL.field(x, jnp.zeros(3), MODEL.encode(["two", 0, None]))
    assert_close(velocity[:, 0, 0, 0], jnp.array([0.25, -0.75, -0.15]), 1e-6)
    assert MODEL.to_images(x).dtype == jnp.uint8
    negative = MODEL.sample(0, ["two"], w=3.0, negative="zero")
    assert negative.mean() > MODEL.sample(0, ["two"], w=3.0).mean()


@pytest.mark.parametrize("prediction", ["noise", "score", "data", "v"])
@pytest.mark.parametrize(
    "options", [{}, {"solver": "midpoint", "grid": "uniform"}, {"sigma": 0.3, "grid": "uniform"}]
)
def test_every_prediction_gives_the_images_of_the_velocity(prediction, options):
    """The same field, predicted as velocity or otherwise; they differ in the noise of the first step only."""

    def other(params, x, t, y):
        velocity = network(params, x, t, y)
        return convert(paths.Linear(), x, t, velocity, source="velocity", target=prediction)

    another = dataclasses.replace(MODEL, network=other, prediction=prediction)
    options = {"solver": "dpm_solver_2m", "grid": "karras"} | options if not options.get("sigma") else options
    images = [one.sample(3, [0, 2], w=2.0, steps=60, **options).astype(int) for one in (MODEL, another)]
    assert np.abs(images[0] - images[1]).max() <= (12 if options.get("sigma") else 4)


def test_a_rule_of_your_own():
    own = lambda field, y, null, w: guidance.classifier_free(field, y, null, w)  # noqa: E731
    np.testing.assert_array_equal(MODEL.sample(0, [1], w=2.0, rule=own), MODEL.sample(0, [1], w=2.0))


@pytest.mark.parametrize("rule", ["classifier_free", "rescaled"])
def test_an_interval_limits_whatever_rule(rule):
    def own(field, y, null, w):
        made = rules.RULES[rule](rules.Guides(paths.Linear(), times.uniform(4)))
        return made(field, y, null, guidance.interval(w, 0.25, 0.75))

    asked = {"w": 3.0, "steps": 4, "solver": "euler"}
    inside = MODEL.sample(0, [0, 1], rule=rule, interval=[0.25, 0.75], **asked)
    np.testing.assert_array_equal(inside, MODEL.sample(0, [0, 1], rule=own, **asked))
    assert (inside != MODEL.sample(0, [0, 1], rule=rule, **asked)).any()


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
        made.sample(0, [0], steps=steps, rule=guidance.rescaled(), block=1) if steps < 3 else made._generator(
            Sampler(steps), mesh.on_one_device()
        )
    assert len(made._generators) == KEPT


def test_a_worse_model_of_another_path_is_rejected():
    here = mesh.on_one_device()
    with pytest.raises(ValueError, match="worse: it was trained on the path Cosine"):
        Generator(model(), Sampler(), here, "autoguidance", worse=model(path=paths.Cosine()))
    Generator(model(), Sampler(), here, "autoguidance", worse=model(path=paths.Linear()))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"w": float("nan")}, "w = nan: the guidance scale must be finite"),
        ({"w": 1e39}, "w = 1e[+]39: the guidance scale must be finite"),
        ({"rule": "magic"}, "rule = 'magic': must be one of classifier_free"),
        ({"rule": "autoguidance"}, "requires a less trained run"),
        ({"solver": "rk5"}, "solver = 'rk5': must be one of euler"),
        ({"steps": 0}, "steps = 0: must be at least 1"),
        ({"steps": 10**9}, "steps = 1000000000: must be at most 100000"),
        ({"block": 10**9}, "block = 1000000000: must be at most"),
        ({"shift": 1e30}, "shift = 1e[+]30: must be from"),
        ({"sigma": 1e30}, "sigma = 1e[+]30: must be at most"),
        ({"sigma": 0.5, "solver": "heun"}, "sigma = 0.5: 'heun' is not a solver of the SDE"),
        ({"grid": "cosine", "steps": 50_000}, "steps = 50000: some times of the grid coincide"),
        ({"y": ["x" * 10**6]}, "label = 'xx.*xx': the classes are 0 zero, 1 one, 2 two"),
        ({"y": [True]}, "label = True: the classes are"),
        ({"negative": "three"}, "label = 'three': the classes are"),
        ({"y": ["three"]}, "label = 'three': the classes are 0 zero, 1 one, 2 two"),
        ({"y": [3]}, "label = 3: the classes are"),
        ({"y": []}, "y = \\[\\]: must be a list"),
        ({"y": "12"}, "y = '12': must be a list"),
        ({"seed": -1}, "seed = -1: must be from 0"),
    ],
)
def test_what_cannot_be_sampled_is_rejected(options, says):
    arguments = {"seed": 0, "y": [0]} | options
    with pytest.raises(ValueError, match=says) as rejected:
        model().sample(**arguments)
    assert len(str(rejected.value)) < 400


def test_a_label_matches_whatever_the_form_of_its_accents():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    made = model(codec=Classes(("3", composed, "Cat")))
    assert made.encode([decomposed, composed, "3", 0]).tolist() == [1, 1, 0, 0]
    for unknown in ("cat", " 3", "caf"):
        with pytest.raises(ValueError, match="the classes are 0 3, 1 caf\u00e9, 2 Cat"):
            made.encode([unknown])


def test_more_images_than_fit_into_memory_are_rejected_before_they_are_listed():
    with pytest.raises(
        ValueError, match=r"^rows x per_label = 11 x 1000000000 images take .* sample at most"
    ):
        check_images(64, rows=11, per_label=10**9)
    check_images(64, rows=11, per_label=10)


def test_prompts_are_read_as_captions_were():
    captions = Captions(("red", "blue"), 3)
    made = Model(
        lambda params, x, t, y: params[y[:, 0]][:, None, None, None] - x,
        *(jnp.array([0.1, 0.0, 0.5, -0.5]), paths.Linear(), "velocity", captions, SPACE),
    )
    page = made.sample(0, ["red", "blue", "red"])
    np.testing.assert_array_equal(made.sample(0, ["blue", " red  "]), page[[1, 0]])
    np.testing.assert_array_equal(made.sample(0, ["red"] * 2, block=1), page[[0, 2]])
    with pytest.raises(ValueError, match="no caption has the word 'green'"):
        made.sample(0, ["green"])
    for long in ("red " * 10**6, "x" * 10_001):
        with pytest.raises(ValueError, match="at most 10,000"):
            made.sample(0, [long])
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
    params = disturbed(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), run.shapes), 0.3)
    (root / "run").mkdir()
    folder.store(root / "run", run)
    with Checkpoints(root / "run" / "checkpoints") as checkpoints:
        checkpoints.save(jax.jit(initial_state, static_argnums=1)(params, optimizer_of(experiment)))
    folder.export(root / "model.safetensors", run, params, 0)
    return root


ALONE = """
import sys
sys.modules["experiments"] = None  # as where the wheel alone is installed
import jaxflow, numpy
for place in ("run", "model.safetensors"):
    numpy.save(f"{place}.npy", jaxflow.load(place).sample(0, [3, 3, 7], w=2.0, steps=2))
"""


def test_the_library_alone_loads_and_samples(places, tmp_path):
    """From the run folder and the file, in another process: the images of the scripts."""
    from experiments import sample

    shutil.copytree(places / "run", tmp_path / "run")
    shutil.copy(places / "model.safetensors", tmp_path)
    subprocess.run([sys.executable, "-P", "-c", ALONE], cwd=tmp_path, check=True, timeout=300)
    options = ["--w", "2", "--labels", "3", "7", "--per-label", "2", "--steps", "2", "--parallel", "jit"]
    sample.main([str(tmp_path / "run"), *options])
    by_script = np.load(tmp_path / "run" / "samples" / "w=2.npz")["images"][:3].astype(int)
    for name in ("run", "model.safetensors"):
        assert np.abs(np.load(tmp_path / f"{name}.npy").astype(int) - by_script).max() <= 1


def test_what_is_not_a_model_is_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist: expected a run folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        load(str(tmp_path))
