"""Runs of flow maps: their loss, guidance inside, and jumps, without a script."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, disturbed, normal

from experiments.presets import digits
from jaxflow import flow_maps, nn, spaces
from jaxflow.data.codecs import Classes
from jaxflow.map_losses import flow_map
from jaxflow.nn.jumps import unguided
from jaxflow.per_example import expand, numbered
from jaxflow.per_example import normal as draw
from jaxflow.runs import maps
from jaxflow.runs.configuration import OBJECTIVES, check, fitted
from jaxflow.runs.objective import ends_of, objective
from jaxflow.runs.requests import keys_of, request
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import Sampler

pytestmark = pytest.mark.usefixtures("standard_promotion")

CODEC, SPACE = Classes(("zero", "one")), spaces.Pixels((4, 4, 1))
NETWORK = nn.DiT(None, patch=4, width=8, depth=1, heads=2, time="fourier")


def run(**options):
    experiment = dataclasses.replace(digits.experiment(), network=NETWORK, **options)
    check(experiment)
    return Run(fitted(experiment, CODEC), "", SPACE, CODEC)


def model(**options):
    own = run(**{"objective": "improved_mean_flow", "w_most": 4.0, "ema": 0.5, **options})
    return own.model(disturbed(own.initial_params(jax.random.key(0))))


MAP = model()
"""For the tests that may share its compiled programs."""


@pytest.mark.requirement("R72")
def test_a_map_jumps_and_is_a_field_too():
    one = MAP.sample(0, ["zero", "one"], w=3.0, calls=1)
    assert one.shape == (2, 4, 4, 1)
    x, t, y = normal(2, 4, 4, 1).astype(jnp.float32), jnp.array([0.2, 0.7]), jnp.array([0, 1])
    assert_close(MAP.field(x, t, y), MAP.average(x, t, t, y), 0.0)
    of_field = MAP.sample(0, ["zero", "one"], w=3.0, steps=2, solver="heun")
    assert (of_field != one).any()


@pytest.mark.requirement("R71", "R72")
@pytest.mark.parametrize(
    ("w", "calls", "interval"), [(0.0, 1, None), (1.0, 2, None), (3.0, 2, None), (3.0, 2, (0.25, 0.75))]
)
def test_guidance_is_inside(w, calls, interval):
    """The images are those of the library's jumps from the same noise."""
    wanted = request(CODEC, ["zero", "one"])
    noise = draw(keys_of(5, wanted), MAP.event_shape)
    y = jnp.array([2, 2]) if w == 0 else wanted.y
    numbers = (max(w, 1.0), *(interval or (0.0, 1.0)))
    guidance = nn.Guidance(*(jnp.full(2, number) for number in numbers))
    average = lambda x, t, s: MAP.average(x, t, s, jnp.asarray(y), guidance)  # noqa: E731
    expected = MAP.to_images(flow_maps.sample(average, noise, calls))
    images = MAP.sample(5, ["zero", "one"], w=w, calls=calls, interval=interval)
    assert np.abs(images.astype(int) - np.asarray(expected, int)).max() <= 1


@pytest.mark.requirement("R71")
def test_one_program_serves_all_scales():
    for w in (1.5, 2.0, 4.0):
        MAP.sample(0, ["zero", "one"], w=w, calls=2)
    jumping = [g for g in MAP._generators.values() if g.sampler == Sampler(2, "jump")]
    assert [generator._any_scale._cache_size() for generator in jumping] == [1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"w": 5.0}, "w = 5: must be 0, or from 1 to 4, the guidance inside the map"),
        ({"w": 0.5}, "w = 0.5: must be 0, or from 1 to 4"),
        ({"w": 2.0, "rule": "projected"}, "rule = 'projected': a map jumps by the guidance inside it"),
        ({"w": 2.0, "negative": "one"}, "negative: a map jumps away from null only"),
        ({"w": 2.0, "calls": 0}, "calls = 0: must be at least 1"),
        ({"w": 2.0, "calls": 2, "solver": "heun"}, "calls = 2: a solver has steps"),
        ({"w": 1.0, "sigma": 0.5}, "sigma = 0.5: 'jump' is not a solver of the SDE"),
    ],
)
def test_what_a_map_cannot_do_is_said(options, says):
    with pytest.raises(ValueError, match=says):
        MAP.sample(0, ["zero"], **options)


def test_a_field_does_not_jump_nor_does_a_map_without_guidance_at_other_scales():
    with pytest.raises(ValueError, match="calls = 1: the model is a field, which has steps"):
        model(objective="field", w_most=None).sample(0, ["zero"], w=1.0, calls=1)
    with pytest.raises(ValueError, match="average: the model is a field"):
        model(objective="field", w_most=None).average(jnp.zeros((1, 4, 4, 1)), *jnp.zeros((3, 1)))
    with pytest.raises(ValueError, match="w = 2: must be 0 or 1 without guidance inside"):
        model(w_most=None).sample(0, ["zero"], w=2.0)


@pytest.mark.requirement("R69", "R70")
@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "field"])
def test_the_loss_of_a_run_is_that_of_the_library(name):
    """Without dropping conditions, over the same times and noise, per number of an event."""
    own = run(objective=name, adaptive=0.0, condition_dropout=0.0)
    params = disturbed(own.initial_params(jax.random.key(0)))
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), dtype=np.uint8)
    batch = {"image": images, "y": jnp.array([0, 1, 0]), "number": jnp.arange(3)}
    key = jax.random.key(1)
    loss = jax.jit(objective(own))(params, key, batch)
    data = SPACE.encode(images)
    trained = own.model(params)
    seen = []

    def average(x, t, s, y):
        seen.append((t, s))
        return trained.average(x, t, s, y)

    keys = numbered(jax.random.split(key, 5)[1], batch["number"])
    expected = flow_map(
        keys, average, trained.path, data, batch["y"], **maps.OPTIONS[name], ends=ends_of(own.experiment)
    )
    assert_close(loss, expected / 16, 1e-5)
    if name == "consistency":
        assert bool(jnp.all(seen[-1][1] == 1))


@pytest.mark.requirement("R71")
def test_the_guide_is_the_guided_conditional_velocity_inside_the_interval():
    levels = jnp.array([1.0, 2.0, 5.0])
    average = lambda x, t, s, y: expand(levels[y.y] * y.guidance.w, x)  # noqa: E731
    x, t, u = jnp.zeros((3, 1)), jnp.array([0.1, 0.5, 0.5]), jnp.ones((3, 1))
    guidance = nn.Guidance(jnp.full(3, 3.0), jnp.full(3, 0.2), jnp.full(3, 0.8))
    y = nn.Jump(jnp.array([0, 1, 2]), jnp.zeros(3), guidance)
    guided = maps.guide_inside(jnp.array(2))(average, x, t, y, u)
    # Outside the interval nothing; inside 2 (level - level of null), unguided; null has no guidance.
    assert_close(guided[:, 0], jnp.array([1.0, 1 + 2 * (2.0 - 5.0), 1.0]), 1e-6)


def test_guidance_is_drawn_within_its_bounds():
    w, start, end = maps.draw_guidance(numbered(jax.random.key(0), jnp.arange(1000)), 8.0)
    assert 1 <= w.min() < 1.1
    assert 7 < w.max() <= 8
    whole = (start == 0) & (end == 1)
    assert 0.4 < np.mean(whole) < 0.6
    assert start.max() <= 0.5 <= end.min()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"objective": "field", "w_most": 2.0}, "w_most = 2.0: of maps, and objective = 'field'"),
        ({"objective": "shortcut", "distill": ""}, "distill is missing: the preset needs a trained field"),
        (
            {"objective": "shortcut", "distill_rule": "rescaled"},
            "'rescaled': has no effect without --distill",
        ),
        ({"objective": "shortcut", "still_weight": 1.0}, "still_weight = 1.0: of fields"),
    ],
)
def test_options_that_do_not_go_together(options, says):
    with pytest.raises(ValueError, match=says):
        run(**options)


@pytest.mark.requirement("R71")
@pytest.mark.parametrize("name", ["classifier_free", "rescaled", "zero_star", "increasing"])
def test_a_distilled_rule_has_a_scale_for_each_example(name):
    """As if each were guided alone."""
    field = model(objective="field", w_most=None)
    x, t, y = normal(2, 4, 4, 1).astype(jnp.float32), jnp.array([0.3, 0.7]), jnp.array([0, 1])
    guidance = unguided(2)._replace(w=jnp.array([1.5, 4.0]))
    rule = maps.rule_of(name, field.path)
    both = maps.guided_field(field.field, field.null, rule)(x, t, nn.Jump(y, jnp.zeros(2), guidance))
    for i, w in enumerate((1.5, 4.0)):
        own = slice(i, i + 1)
        assert_close(both[own], rule(field.field, y[own], field.null, w)(x[own], t[own]), 1e-5)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "distill_rule = 'nothing': must be one of classifier_free"),
        ("autoguidance", "distill_rule = 'autoguidance': requires a less trained run"),
    ],
)
def test_rules_that_cannot_be_distilled(name, says):
    with pytest.raises(ValueError, match=says):
        maps.rule_of(name, run(objective="field").experiment.path)
