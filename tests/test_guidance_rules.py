import re
from functools import partial
from itertools import pairwise
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PATHS, assert_close, assert_pairs, normal, three_components
from exact_guidance import FIELD, LINEAR, NULL, RULES, call, class_log_prob, field, guided, inputs, scheduled

from jaxflow import guidance, mixtures, paths, predictions, sampling, solvers, times
from jaxflow.typing import StatefulField

NOTHING, COSINE = jnp.array(NULL), paths.Cosine()
ON_COSINE = jax.jit(field(COSINE))


@pytest.mark.requirement("R40")
@pytest.mark.parametrize("name", RULES)
def test_every_rule_at_its_neutral_options(name, float64):
    """All rules are (1 - w) u(x) + w u(x | y); CFG-Zero* only at w = 1."""

    def values(x, t, y):
        unguided, conditional = (ON_COSINE(x, t, labels) for labels in (jnp.full_like(y, NULL), y))
        if name == "zero_star":
            along = jnp.sum(conditional * unguided, axis=1, keepdims=True)
            unguided = along / jnp.sum(unguided**2, axis=1, keepdims=True) * unguided
        pairs = {}
        for w in (0.0, 1.0, 3.0):
            scales = {"number": w, "array": jnp.array(w), "per example": jnp.full(len(y), w)}
            for kind, scale in scales.items():
                expected = (1 - w) * unguided + w * conditional
                pairs[f"w = {w}, {kind}"] = call(guided(name, COSINE, y, scale, ON_COSINE), x, t), expected
        return pairs

    assert_pairs(values(*inputs()), 1e-9 if name == "by_classifier" else 1e-12)


@pytest.mark.parametrize(
    "rule",
    [
        guidance.rescaled(phi=0.7),
        guidance.projected(LINEAR, parallel=0.3, limit=0.1, momentum=-0.5),
        guidance.tangential_damping(LINEAR),
        guidance.frequency_decoupled((1.0, 0.5)),
        guidance.magnitude_aware(),
        guidance.zero_star(zero_until=0.01),
        guidance.rectified(0.05, decay=1.0),
        scheduled(lambda w: guidance.interval(w, 0.2, 0.7)),
        guidance.autoguidance(lambda x, t, y: -x),
    ],
    ids=[
        "rescaled",
        "projected",
        "tangential",
        "frequency",
        "magnitude",
        "zero_star",
        "rectified",
        "interval",
        "autoguidance",
    ],
)
def test_every_rule_is_the_conditional_model_at_w_1_for_any_options(rule, float64):
    x, t, y = inputs()
    for scale in (1, 1.0, jnp.array(1.0)):
        assert_close(call(rule(FIELD, y, NOTHING, scale), x, t), FIELD(x, t, y), 1e-12)


OPTIONS = {  # values of the option; value -> rule, scale
    "w": ([0.0, 1.0, 3.0], lambda v: (guidance.classifier_free, v)),
    "w of several": ([0.0, 3.0], lambda v: (RULES["several"](LINEAR, FIELD), v)),
    "start": ([0.1, 0.4], lambda v: (guidance.classifier_free, guidance.interval(3.0, v, 0.8))),
    "end": ([0.5, 1.0], lambda v: (guidance.classifier_free, guidance.interval(3.0, 0.2, v))),
    "share": ([0.0, 0.7], lambda v: (guidance.rescaled(phi=v), 3.0)),
    "parallel": ([0.0, 0.6], lambda v: (guidance.projected(LINEAR, parallel=v), 3.0)),
    "limit": ([0.1, jnp.inf], lambda v: (guidance.projected(LINEAR, limit=v), 3.0)),
    "momentum": ([0.0, -0.5], lambda v: (guidance.projected(LINEAR, momentum=v), 3.0)),
    "damped share": ([0.0, 1.0], lambda v: (guidance.tangential_damping(LINEAR, share=v), 3.0)),
    "share of low": ([0.0, 1.0], lambda v: (guidance.frequency_decoupled((1.0, v)), 3.0)),
    "alpha": ([0.0, 2.0], lambda v: (guidance.magnitude_aware(alpha=v), 3.0)),
    "zero_until": ([0.0, 0.3], lambda v: (guidance.zero_star(zero_until=v), 3.0)),
    "ahead": ([0.0, 0.1], lambda v: (guidance.rectified(v), 3.0)),
    "decay": ([0.0, 2.0], lambda v: (guidance.rectified(0.1, decay=v), 3.0)),
}


@pytest.mark.requirement("R50")
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_an_axis_of_a_sweep(name):
    """Samples by vmap inside jit equal those of the Python loop."""
    values, make = OPTIONS[name]
    x, _, y = inputs(4)

    def end(value):
        rule, w = make(value)
        velocity = rule(FIELD, y, NOTHING, w)
        return sampling.sample_ode(velocity, x, times.uniform(3), solver=solvers.euler())

    both = jax.jit(lambda axis: (jax.vmap(end)(axis), jnp.stack([end(value) for value in values])))
    swept, looped = map(np.asarray, both(jnp.array(values)))
    assert np.max(np.abs(swept[0] - swept[-1])) > 1e-3
    assert_close(swept, looped, 1e-5)


def test_interval_guides_inside_and_calls_the_conditional_model_alone_elsewhere(float64):
    """By the number of examples per call, counted while the program runs."""
    sizes = []

    def counting(x, t, y):
        jax.debug.callback(lambda: sizes.append(x.shape[0]))
        return FIELD(x, t, y)

    x, _, y = inputs(4)
    inner, last = (guidance.interval(3.0, 0.2, end) for end in (0.7, 1.0))
    ramp = lambda t: jnp.where(t < 0.5, 0.0, 2.0)  # noqa: E731
    for scale, time, w, size in (
        (inner, 0.1, 1.0, 4),
        (inner, 0.2, 3.0, 8),
        (inner, 0.7, 1.0, 4),
        (last, 1.0, 3.0, 8),
        (ramp, 0.4, 0.0, 4),
        (ramp, 0.6, 2.0, 8),
    ):
        t = jnp.full(4, time)
        sizes.clear()
        value = guidance.classifier_free(counting, y, NOTHING, scale)(x, t)
        jax.effects_barrier()
        assert sizes == [size]
        plain = guidance.classifier_free(FIELD, y, NOTHING, jnp.array(w))
        assert_close(value, plain(x, t), 1e-12)


@pytest.mark.parametrize(
    ("start", "end", "guided_for"), [(0.0, 1.0, 1.0), (0.25, 0.75, 0.5), (0.25, 1.0, 0.875)]
)
def test_heun_guides_half_a_step_longer_in_an_interval_that_ends_at_1(start, end, guided_for):
    """Where the velocity is y the distance measures how long w was applied."""
    velocity = lambda x, t, y: jnp.broadcast_to(y[:, None], x.shape)  # noqa: E731
    w = guidance.interval(3.0, start, end)
    rule = guidance.classifier_free(velocity, jnp.ones(1), jnp.zeros(()), w)
    way = sampling.sample_ode(rule, jnp.zeros((1, 1)), times.uniform(4), solver=solvers.heun())
    assert_close(way, jnp.full((1, 1), 1 + 2 * guided_for), 1e-6)


@pytest.mark.parametrize(
    ("rule", "w", "t", "sizes"),
    [
        (guidance.zero_star(zero_until=0.04), 3.0, 0.02, []),
        (guidance.zero_star(zero_until=0.04), 3.0, 0.5, [8]),
        (guidance.rectified(0.05), 3.0, 0.5, [4, 8]),
        (guidance.rectified(0.05), guidance.interval(3.0, 0.2, 0.7), 0.1, [4]),
        (guidance.rescaled(), guidance.interval(3.0, 0.2, 0.7), 0.1, [4]),
        (guidance.rescaled(rule=guidance.magnitude_aware()), 3.0, 0.5, [8, 4]),
        (RULES["several"](LINEAR, FIELD), 1.0, 0.5, [4]),
        (RULES["several"](LINEAR, FIELD), 2.5, 0.5, [8]),
        (RULES["several"](LINEAR, FIELD), 0, 0.5, [4]),
        (guidance.projected(LINEAR), 1, 0.5, [4]),
        (guidance.projected(LINEAR), 3.0, 0.5, [8]),
        (guidance.projected(LINEAR, momentum=-0.5), guidance.interval(3.0, 0.2, 0.7), 0.1, [4]),
        (guidance.by_classifier(LINEAR, class_log_prob(LINEAR)), 3.0, 0.5, [4]),
    ],
)
def test_no_rule_calls_the_model_needlessly(rule, w, t, sizes):
    called = []

    def counting(x, t, y):
        jax.debug.callback(lambda: called.append(x.shape[0]), ordered=True)
        return FIELD(x, t, y)

    x, _, y = inputs(4)
    call(rule(counting, y, NOTHING, w), x, jnp.full(4, t))
    jax.effects_barrier()
    assert called == sizes


def test_autoguidance_calls_each_model_once_and_none_without_weight():
    x, t, y = inputs(4)
    calls = []
    model = lambda name: lambda x, t, y: calls.append(name) or x  # noqa: E731
    for w, expected in ((0.0, ["worse"]), (1, ["better"]), (2.0, ["worse", "better"])):
        calls.clear()
        guidance.autoguidance(model("worse"))(model("better"), y, NOTHING, w)(x, t)
        assert sorted(calls) == sorted(expected)


def test_internal_guidance_extrapolates_two_outputs_of_one_call(float64):
    """By hand, for each kind of scale; the field itself at w = 1; and below classifier-free guidance."""
    x, t, y = inputs(4)
    calls = []

    def outputs(x, t, y):
        calls.append(len(x))
        return x * t[:, None], FIELD(x, t, y)

    apart = FIELD(x, t, y) - x * t[:, None]
    for w in (0.0, 1.25, jnp.array([0.0, 1.0, 1.5, 3.0]), lambda t: 1 + t):
        calls.clear()
        value = guidance.internal(outputs)(FIELD, y, NOTHING, w)(x, t)
        scale = jnp.broadcast_to(guidance.scale_at(w, t), (4,))[:, None]
        assert_close(value, x * t[:, None] + scale * apart, 1e-12)
        assert set(calls) == {4}
    calls.clear()
    assert_close(guidance.internal(outputs)(FIELD, y, NOTHING, 1.0)(x, t), FIELD(x, t, y), 0)
    assert not calls
    further = guidance.classifier_free(guidance.extrapolated(outputs, 1.4), y, NOTHING, 1.35)(x, t)
    assert calls == [8]
    given_y, given_null = (-0.4 * x * t[:, None] + 1.4 * FIELD(x, t, k) for k in (y, jnp.full_like(y, NULL)))
    assert_close(further, given_null + 1.35 * (given_y - given_null), 1e-12)


def test_plus_plus_is_ddim_that_renoises_with_the_unguided_noise(float64):
    """Chung et al. 2406.08070, algorithm 2, step by step; of each example its own w."""
    x, _, y = inputs(6)
    w, grid = jnp.asarray(np.linspace(0, 1.5, 6)), jnp.asarray(np.linspace(0, 1, 6) ** 1.3)
    guided = guidance.classifier_free(ON_COSINE, y, NOTHING, guidance.plus_plus(w, COSINE, grid))
    key = jax.random.key(0)
    end = jax.jit(lambda: sampling.sample_ddpm(key, guided, COSINE, x, grid, eta=0.0))()
    for t, t_next in pairwise(grid):
        times = jnp.full(6, t)
        unguided, conditional = (
            predictions.parts(COSINE, x, times, ON_COSINE(x, times, k)) for k in (jnp.full_like(y, NULL), y)
        )
        data = unguided.data + w[:, None] * (conditional.data - unguided.data)
        x = COSINE.alpha(t_next) * data + COSINE.beta(t_next) * unguided.noise
    assert_close(end, x, 1e-10)


def test_rescaled_has_the_size_of_the_conditional_velocity(float64):
    image = normal(4, 6, 6, 1)
    t, y, null = jnp.full(4, 0.5), jnp.arange(4.0), jnp.array(9.0)
    of_label = lambda x, t, y: x * (1 + y[:, None, None, None]) + jnp.sin(7 * x)  # noqa: E731
    for share in (0.0, 0.4, 1.0):
        value = guidance.rescaled(phi=share)(of_label, y, null, 4.0)(image, t)
        plain = guidance.classifier_free(of_label, y, null, 4.0)(image, t)
        sizes = [v.std(axis=(1, 2, 3)) for v in (value, plain, of_label(image, t, y))]
        assert_close(sizes[0], share * sizes[2] + (1 - share) * sizes[1], 1e-12)


def test_any_rule_can_be_rescaled(float64):
    """The result of the rule times one number per image; its memory is kept."""
    image, t, y = normal(4, 6, 6, 1), jnp.full(4, 0.5), jnp.arange(4.0)
    of_label = lambda x, t, y: x * (1 + y[:, None, None, None]) + jnp.sin(7 * x)  # noqa: E731
    deviation = lambda u: np.asarray(u).std(axis=(1, 2, 3), keepdims=True)  # noqa: E731
    conditional = of_label(image, t, y)
    for rule in (
        guidance.classifier_free,
        scheduled(lambda w: w),
        guidance.frequency_decoupled(),
        guidance.projected(LINEAR, limit=9.0, momentum=-0.5),
    ):
        made = [
            make(of_label, y, jnp.array(9.0), 4.0) for make in (rule, guidance.rescaled(phi=0.3, rule=rule))
        ]
        memory = jnp.ones_like(image)
        if isinstance(made[0], StatefulField):
            (plain, kept), (value, same) = (one.call(image, t, memory) for one in made)
            assert_close(same, kept, 0)
            assert_close(made[1].start(image), made[0].start(image), 0)
        else:
            plain, value = (one(image, t) for one in made)
        factor = 0.3 * deviation(conditional) / deviation(plain) + 0.7
        assert_close(value, plain * factor, 1e-12)


def test_rescaled_keeps_events_of_zero_deviation():
    """An event of one number has none; 0 / 0 must not become a factor."""
    toward = lambda x, t, y: y[:, None] - x  # noqa: E731
    x, t, y, null = jnp.zeros((2, 1)), jnp.zeros(2), jnp.array([1.0, 2.0]), jnp.array(0.0)
    assert_close(guidance.rescaled(phi=0.7)(toward, y, null, 3.0)(x, t), 3 * y[:, None], 1e-6)


def test_projected_against_its_definition_in_data(path, float64):
    """Over two calls: difference of data, momentum, limit, and the component along D(x | y)."""
    x, _, y = inputs()
    w, parallel, limit, momentum = 3.0, 0.2, 0.5, -0.4
    make = guidance.projected(path, parallel=parallel, limit=limit, momentum=momentum)
    rule = make(field(path), y, NOTHING, w)

    @jax.jit
    def call(t, memory, running):
        """The guided data by the rule and by hand, and what each remembers."""
        data, unguided = (mixtures.denoise(three_components(), path, x, t, k) for k in (y, None))
        running = data - unguided + momentum * running
        norm = jnp.linalg.norm(running, axis=1, keepdims=True)
        cut = running * jnp.minimum(1, limit / norm)
        unit = data / jnp.linalg.norm(data, axis=1, keepdims=True)
        along = jnp.sum(cut * unit, axis=1, keepdims=True) * unit
        expected = data + (w - 1) * (cut - along + parallel * along)
        velocity, memory = rule.call(x, t, memory)
        got = predictions.convert(path, x, t, velocity, source="velocity", target="data")
        return got, expected, memory, running

    memory, running = rule.start(x), jnp.zeros_like(x)
    for time in (0.3, 0.6):
        got, expected, memory, running = call(jnp.full(16, time), memory, running)
        assert_close(got, expected, 1e-10)


def by_hand(rule, x, grid, memory=None):
    """Euler steps along a stateful field."""
    memory = rule.start(x) if memory is None else memory
    for t, t_next in pairwise(grid):
        velocity, memory = rule.call(x, jnp.full(len(x), t), memory)
        x = x + (t_next - t) * velocity
    return x


def test_projected_carries_its_momentum_through_every_sampler(float64):
    """The scan carries the memory from step to step, as by hand."""
    x, _, y = inputs()
    grid = jnp.asarray(np.linspace(0, 1, 6), float)
    rule = guidance.projected(LINEAR, momentum=-0.5)(FIELD, y, NOTHING, 3.0)
    key, forgetful = jax.random.key(0), guidance.projected(LINEAR)(FIELD, y, NOTHING, 3.0)
    assert not isinstance(forgetful, StatefulField)

    @jax.jit
    def ends():
        ode = lambda rule: sampling.sample_ode(rule, x, grid, solver=solvers.euler())  # noqa: E731
        sde = sampling.sample_sde(key, rule, LINEAR, x, grid, sigma=0.0)
        # On the straight path a DDIM step is an Euler step.
        ddim = sampling.sample_ddpm(key, rule, LINEAR, x, grid, eta=0.0)
        return by_hand(rule, x, grid), (ode(rule), sde, ddim), ode(forgetful)

    point, samples, forgotten = ends()
    for sample in samples:
        assert_close(sample, point, 1e-12)
    assert jnp.max(jnp.abs(forgotten - point)) > 1e-3


def test_projected_forgets_outside_an_interval(float64):
    """Up to 0.4 it is the conditional model; then the momentum starts from zero. For each example alike."""
    x, _, y = inputs()
    grid = jnp.asarray(np.linspace(0, 1, 6), float)
    make = guidance.projected(LINEAR, momentum=-0.5)
    inside = make(FIELD, y, NOTHING, guidance.interval(3.0, 0.4, 1.0))
    always = make(FIELD, y, NOTHING, 3.0)
    euler = partial(sampling.sample_ode, solver=solvers.euler())

    @jax.jit
    def ends():
        middle = euler(lambda x, t: FIELD(x, t, y), x, grid[:3])
        return euler(inside, x, grid), by_hand(always, middle, grid[2:])

    assert_close(*ends(), 1e-12)

    of_some = lambda t: jnp.where((t < 0.5) & (y == 0), 1.0, 3.0)  # noqa: E731
    _, memory = make(FIELD, y, NOTHING, of_some).call(x, jnp.full(16, 0.2), jnp.ones_like(x))
    assert_close(memory[y == 0], jnp.zeros_like(memory[y == 0]), 0)
    assert jnp.all(jnp.any(memory[y != 0] != 0, axis=1))


def test_projected_is_finite_where_the_slopes_of_the_path_vanish():
    """All velocities are 0 there, guided ones too, and so is the memory."""
    path, (x, _, y) = PATHS["functions"], inputs()
    rule = guidance.projected(path, limit=0.5, momentum=-0.5)(field(path), y, NOTHING, 3.0)
    velocity, memory = jax.jit(lambda: rule.call(x, jnp.zeros(16), rule.start(x)))()
    assert_close((velocity, memory), (jnp.zeros_like(x), jnp.zeros_like(x)), 1e-6)
    end = jax.jit(lambda: sampling.sample_ode(rule, x, times.uniform(8), solver=solvers.euler()))()
    chex.assert_tree_all_finite(end)


def test_tangential_damping_projects_the_noise_on_the_first_singular_vector(float64):
    """By the singular value decomposition of each pair, also where the two point away from each other."""
    x, t, y = inputs()
    x = x.at[0].set(0.01)
    value = guidance.tangential_damping(COSINE, share=0.6)(ON_COSINE, y, NOTHING, 3.0)(x, t)
    noises = [
        -COSINE.beta(t)[:, None] * mixtures.score(three_components(), COSINE, x, t, k) for k in (y, None)
    ]
    right = np.linalg.svd(np.stack(noises, axis=1), full_matrices=False)[2][:, 0]
    guided, plain = map(np.asarray, noises)
    assert np.min(np.sum(guided * plain, axis=1)) < 0
    damped = 0.4 * plain + 0.6 * np.sum(plain * right, axis=1, keepdims=True) * right
    got = predictions.convert(COSINE, x, t, value, source="velocity", target="noise")
    assert_close(got, jnp.asarray(-2 * damped + 3 * guided), 1e-10)


def test_tangential_damping_halves_the_difference_across_the_noise_at_the_start(float64):
    """At t = 0 both noises are x; the limit of t -> 0, approached linearly."""
    x, _, y = inputs(4)
    rule = guidance.tangential_damping(LINEAR)(FIELD, y, NOTHING, 3.0)
    unguided, conditional = (FIELD(x, jnp.zeros(4), k) for k in (jnp.full_like(y, NULL), y))
    d = conditional - unguided
    along = jnp.sum(d * x, axis=1, keepdims=True) / jnp.sum(x**2, axis=1, keepdims=True) * x
    start = rule(x, jnp.zeros(4))
    assert_close(start, conditional + 2 * (along + (d - along) / 2), 1e-12)
    assert_close(rule(x, jnp.full(4, 1e-7)), start, 1e-5)


def test_frequencies_are_scaled_apart_and_add_up(float64):
    """A constant image is low; a checkerboard, which the blur removes, is high; odd sides and clips alike."""
    board = (-1.0) ** (np.arange(8)[:, None, None] + np.arange(6)[None, :, None])
    apart = guidance.frequency_decoupled((0.5, 0.25, 2.0))
    for image, share in ((np.ones((8, 6, 1)), 2.0), (board, 0.5)):
        y = jnp.asarray(np.stack([image, 3 * image]))
        value = apart(lambda x, t, y: y, y, jnp.zeros((8, 6, 1)), 3.0)(jnp.zeros_like(y), jnp.zeros(2))
        assert_close(value[:, 2:-2, 2:-2], ((1 + 2 * share) * y)[:, 2:-2, 2:-2], 1e-12)
    y = normal(2, 3, 7, 5, 2)
    value = guidance.frequency_decoupled((1.0, 1.0, 1.0))(lambda x, t, y: y, y, 0 * y[0], 3.0)
    assert_close(value(jnp.zeros_like(y), jnp.zeros(2)), 3 * y, 1e-12)


def test_magnitude_aware_lowers_the_scale_by_the_relative_difference(float64):
    x, t, y = inputs()
    value = guidance.magnitude_aware(alpha=0.7)(FIELD, y, NOTHING, 3.0)(x, t)
    unguided, conditional = (np.asarray(FIELD(x, t, k)) for k in (jnp.full_like(y, NULL), y))
    norm = lambda v: np.linalg.norm(v, axis=1, keepdims=True)  # noqa: E731
    scale = 1 + 2 * np.exp(-0.7 * norm(conditional - unguided) / norm(unguided))
    assert_close(value, jnp.asarray((1 - scale) * unguided + scale * conditional), 1e-12)
    still = lambda x, t, y: jnp.broadcast_to(y[:, None], x.shape)  # noqa: E731
    labels = jnp.array([0.0, 2.0])
    of_nothing = guidance.magnitude_aware()(still, labels, jnp.array(0.0), 3.0)(
        jnp.ones((2, 3)), jnp.zeros(2)
    )
    assert_close(of_nothing, jnp.repeat(labels[:, None], 3, axis=1), 0)


def test_zero_star_rests_first_and_then_takes_the_best_multiple(float64):
    """s u(x) is the multiple of u(x) closest to u(x | y)."""
    x, t, y = inputs()
    value = guidance.zero_star(zero_until=0.3)(FIELD, y, NOTHING, 3.0)(x, t)
    assert_close(value[t < 0.3], jnp.zeros_like(value[t < 0.3]), 0)
    projection = guidance.zero_star()(FIELD, y, NOTHING, 0.0)(x, t)
    unguided, conditional = FIELD(x, t, jnp.full_like(y, NULL)), FIELD(x, t, y)
    distance = lambda v: jnp.sum((v - conditional) ** 2, axis=1)  # noqa: E731
    assert_close(jnp.sum((conditional - projection) * unguided, axis=1), jnp.zeros(16), 1e-12)
    assert jnp.all(distance(projection) <= distance(1.01 * projection))
    assert_close(value[t >= 0.3], (-2 * projection + 3 * conditional)[t >= 0.3], 1e-12)


@pytest.mark.parametrize(
    "grid",
    [times.uniform(50), times.shifted(50, 3.0), times.cosine(50)],
    ids=["uniform", "shifted", "cosine"],
)
def test_zero_star_rests_equally_long_on_any_grid(grid):
    """The paper's 4 % of the steps: 2 Euler steps of 50."""
    x, _, y = inputs(4)
    rule = guidance.zero_star(zero_until=grid[int(0.04 * 50)])(FIELD, y, NOTHING, 3.0)
    points = sampling.sample_ode(rule, x, grid, solver=solvers.euler(), trajectory=True)
    moved = jnp.any(points[1:] != points[:-1], axis=(1, 2))
    assert moved.tolist() == [False] * 2 + [True] * 48


def test_rectified_looks_half_a_step_ahead(float64):
    x, t, y = inputs()
    ahead = 0.01
    value = guidance.rectified(ahead, decay=2.0)(FIELD, y, NOTHING, 3.0)(x, t)
    here = FIELD(x, t, y)
    there, later = x + ahead * here, t + ahead
    difference = FIELD(there, later, y) - FIELD(there, later, jnp.full_like(y, NULL))
    assert_close(value, here + 2.0 * ((1 - t) ** 2)[:, None] * difference, 1e-12)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_samples_finitely_from_end_to_end_in_float32(name):
    """From t = 0 to t = 1, with a solver that evaluates both."""
    x, _, y = inputs()
    rule = guided(name, LINEAR, y, 3.0)
    end = jax.jit(lambda: sampling.sample_ode(rule, x, times.uniform(8), solver=solvers.heun()))()
    chex.assert_tree_all_finite(end)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: guidance.interval(2.0, 0.75, 0.25), "end - start = -0.5"),
        (lambda: guidance.interval(2.0, -0.1, 0.2), "start = -0.1"),
        (lambda: guidance.interval(float("nan"), 0.2, 0.7), "w = nan"),
        (lambda: guidance.plus_plus(float("inf"), LINEAR, 4), "w = inf"),
        (lambda: guidance.rescaled(phi=1.5), "phi = 1.5"),
        (lambda: guidance.tangential_damping(LINEAR, share=1.5), "share = 1.5"),
        (lambda: guidance.frequency_decoupled(()), "shares"),
        (lambda: guidance.frequency_decoupled((1.0, jnp.nan)), r"shares\[1\] = nan"),
        (lambda: guidance.magnitude_aware(alpha=-1.0), "alpha = -1"),
        (lambda: guidance.zero_star(zero_until=1.0), "zero_until = 1"),
        (lambda: guidance.projected(LINEAR, limit=0.0), "limit = 0"),
        (lambda: guidance.projected(LINEAR, momentum=1.0), "momentum = 1"),
        (lambda: guidance.projected(LINEAR, parallel=jnp.inf), "parallel = inf"),
        (lambda: guidance.rectified(-0.1), "ahead = -0.1"),
        (lambda: guidance.rectified(0.1, decay=-1.0), "decay = -1"),
        (lambda: guidance.several(FIELD, [0], NOTHING, [1.0, 2.0]), "1 conditions and 2 scales"),
    ],
)
def test_options_are_checked_when_the_rule_is_made(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("name", RULES)
def test_every_rule_rejects_an_infinite_scale(name):
    with pytest.raises(ValueError, match="w = inf"):
        guided(name, LINEAR, jnp.zeros(1, jnp.int32), float("inf"))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("wrong", [lambda x: x[:, 0], lambda x: jnp.sum(x)], ids=["(b,)", "scalar"])
def test_every_rule_rejects_a_field_of_another_shape(name, wrong):
    """It would be broadcast against x, mixing examples."""
    x, t, y = jnp.zeros((4, 1)), jnp.zeros(4), jnp.zeros(4, jnp.int32)
    model = lambda x, t, y: wrong(x)  # noqa: E731
    rule = RULES[name](LINEAR, model)
    if name == "by_classifier":
        rule = guidance.by_classifier(LINEAR, lambda x, t, y: x[:, 0])
    for w in (3.0, 1.0):
        with pytest.raises(ValueError, match=r"the field returned shape \(\d*,?\) for x of shape \(\d, 1\)"):
            call(rule(model, y, NOTHING, w), x, t)


def test_a_worse_model_and_a_classifier_are_checked_alike():
    x, t, y = inputs(4)
    with pytest.raises(ValueError, match=r"the field returned shape \(4,\)"):
        guidance.autoguidance(lambda x, t, y: x[:, 0])(FIELD, y, NOTHING, 3.0)(x, t)
    table = lambda x, t, y: mixtures.class_log_prob(three_components(), LINEAR, x, t)  # noqa: E731
    with pytest.raises(ValueError, match=r"log_prob returned shape \(4, 3\)"):
        guidance.by_classifier(LINEAR, table)(FIELD, y, NOTHING, 3.0)(x, t)


@pytest.mark.requirement("R10")
@pytest.mark.parametrize("name", RULES)
def test_every_rule_keeps_bfloat16_with_times_in_float32(name):
    """A bfloat16 network sees float32 times and returns bfloat16 close to the float32 result."""
    seen = []

    def half(x, t, y):
        seen.append(t.dtype)
        return FIELD(x.astype(jnp.float32), t, y).astype(jnp.bfloat16)

    (x, _, y), narrow = inputs(), jnp.bfloat16

    @jax.jit
    def ends():
        end = sampling.sample_ode(guided(name, LINEAR, y, 2.0, half), x.astype(narrow), times.uniform(8))
        return end, sampling.sample_ode(guided(name, LINEAR, y, 2.0), x, times.uniform(8))

    end, wide = ends()
    assert end.dtype == narrow
    assert set(seen) == {jnp.dtype("float32")}
    assert jnp.mean(jnp.abs(end.astype(jnp.float32) - wide)) < 0.1


def test_the_rule_of_the_page_is_its_formula(float64):
    """docs/rules.md: u(x | y) + (w - 1) d min(1, limit / |d|), evaluated as often as any other rule."""
    page = (Path(__file__).parents[1] / "docs" / "rules.md").read_text()
    names: dict = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.S)[0], names)
    x, t, y = inputs()
    unguided, conditional = FIELD(x, t, jnp.full_like(y, NULL)), FIELD(x, t, y)
    difference = conditional - unguided
    length = jnp.linalg.norm(difference, axis=1, keepdims=True)
    shorter = jnp.where(length > 0.3, 0.3 / length, 1.0) * difference
    assert 0 < jnp.sum(length > 0.3) < len(y)
    for w in (1.0, 3.0, jnp.full(16, 3.0), guidance.interval(3.0, 0.0, 1.0)):
        scale = 1.0 if isinstance(w, float) and w == 1 else 3.0
        value = names["limited"](0.3)(FIELD, y, NOTHING, w)(x, t)
        assert_close(value, conditional + (scale - 1) * shorter, 1e-12)
    ends = jax.vmap(lambda limit: names["limited"](limit)(FIELD, y, NOTHING, 3.0)(x, t))(
        jnp.array([0.3, 9.0])
    )
    assert_close(ends[0], conditional + 2 * shorter, 1e-12)
    assert_close(ends[1], 3 * conditional - 2 * unguided, 1e-12)
