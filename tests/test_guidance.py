from itertools import pairwise

import chex
import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close, three_components

from jaxflow import (
    fields,
    guidance,
    losses,
    mixtures,
    paths,
    per_example,
    predictions,
    sampling,
    solvers,
    times,
)
from jaxflow.typing import StatefulField

NULL = 3


def field(path):
    mixture = three_components()
    return lambda x, t, y: mixtures.velocity(mixture, path, x, t, y)


def inputs(n=16):
    x = jax.random.normal(jax.random.key(0), (n, 2))
    return x, jnp.linspace(0.02, 0.98, n), jnp.arange(n) % 3


def class_log_prob(path):
    def log_prob(x, t, y):
        table = mixtures.class_log_prob(three_components(), path, x, t)
        return jnp.take_along_axis(table, y[:, None], axis=1)[:, 0]

    return log_prob


@pytest.mark.parametrize("w", [0, 0.0, 1, 1.0])
@pytest.mark.requirement("R40")
def test_no_scale_is_the_unguided_field_and_one_the_conditional(path, w, float64):
    x, t, y = inputs()
    expected = field(path)(x, t, y if w == 1 else jnp.full_like(y, NULL))
    for scale in (w, jnp.array(float(w)), jnp.full(len(y), float(w)), lambda t: jnp.full_like(t, w)):
        guided = guidance.classifier_free(field(path), y, jnp.array(NULL), scale)
        assert_close(guided(x, t), expected, 1e-12)


@pytest.mark.requirement("R31", "R33")
def test_classifier_free_is_classifier_guidance_with_the_exact_classifier(path, float64):
    """u(x) + w b grad log p(y | x) = (1 - w) u(x) + w u(x | y)."""
    x, t, y = inputs()
    unguided = lambda x, t: field(path)(x, t, jnp.full_like(y, NULL))  # noqa: E731
    for w in (0.0, 1.0, 3.5):
        free = guidance.classifier_free(field(path), y, jnp.array(NULL), w)(x, t)
        classifier = guidance.classifier(unguided, path, class_log_prob(path), y, w)(x, t)
        assert_close(classifier, free, 1e-9)


@pytest.mark.parametrize("name", ["linear", "cosine", "square_root"])
@pytest.mark.requirement("R31")
def test_classifier_guidance_at_the_noise_end(name, float64):
    """w alpha' (E[data | y] - E[data]), where b is infinite and the gradient zero."""
    path = {"linear": paths.Linear(), "cosine": paths.Cosine(), "square_root": paths.SquareRoot()}[name]
    mixture, (x, _, y), t = three_components(), inputs(), jnp.zeros(16)
    still = lambda x, t: jnp.zeros_like(x)  # noqa: E731
    guided = guidance.classifier(still, path, class_log_prob(path), y, 2.0)(x, t)
    shift = mixture.means[y] - (mixture.weights @ mixture.means)[None]
    assert_close(guided, 2 * paths.coefficients(path, t).d_alpha[:, None] * shift, 1e-12)


@pytest.mark.parametrize(("w", "examples"), [(0, 8), (1, 8), (1.0, 8), (2.0, 16), (jnp.ones(()), 16)])
@pytest.mark.requirement("R40")
def test_one_batched_call(w, examples):
    sizes = []

    def counting(x, t, y):
        sizes.append(x.shape[0])
        return x

    x, t, y = inputs(8)
    guidance.classifier_free(counting, y, jnp.array(NULL), w)(x, t)
    assert sizes == [examples]


@pytest.mark.requirement("R40")
def test_scale_per_example_and_as_a_function_of_time():
    x, t, y = inputs(4)
    w = jnp.array([0.0, 1.0, 2.0, 5.0])
    batch = guidance.classifier_free(field(paths.Linear()), y, jnp.array(NULL), w)(x, t)
    for i in range(4):
        alone = guidance.classifier_free(field(paths.Linear()), y[i : i + 1], jnp.array(NULL), float(w[i]))
        assert_close(batch[i : i + 1], alone(x[i : i + 1], t[i : i + 1]), 1e-5)
    ramp = guidance.classifier_free(field(paths.Linear()), y, jnp.array(NULL), lambda t: 4 * t)(x, t)
    same = guidance.classifier_free(field(paths.Linear()), y, jnp.array(NULL), 4 * t)(x, t)
    assert_close(ramp, same, 1e-5)


@pytest.mark.requirement("R21")
def test_condition_of_any_structure():
    y = {"class": jnp.array([0, 1]), "vector": jnp.ones((2, 3))}
    null = {"class": jnp.array(9), "vector": jnp.zeros(3)}
    guided = guidance.classifier_free(lambda x, t, y: y["vector"], y, null, 2.0)
    assert_close(guided(jnp.zeros((2, 3)), jnp.zeros(2)), jnp.full((2, 3), 2.0), 0)


@pytest.mark.parametrize("rule", ["classifier_free", "several", "rescaled"])
def test_null_may_differ_by_sample_and_change_with_time(rule):
    """Null is 0 or 1 by sample before t = 0.5, and 10 after it; the field leads to its condition."""
    by_sample = jnp.array([0.0, 1.0])
    later = lambda t: jnp.where(t < 0.5, by_sample, 10.0)  # noqa: E731
    toward = lambda x, t, y: y[:, None] - x  # noqa: E731
    y, x, w = jnp.array([3.0, 4.0]), jnp.zeros((2, 1)), 3.0
    make = {
        "classifier_free": lambda null: guidance.classifier_free(toward, y, null, w),
        "several": lambda null: guidance.several(toward, [y], null, [w]),
        "rescaled": lambda null: guidance.rescaled(toward, y, null, w, share=0.0),
    }[rule]
    for t, null in ((jnp.full(2, 0.2), by_sample), (jnp.full(2, 0.8), jnp.full(2, 10.0))):
        expected = ((1 - w) * null + w * y)[:, None]
        assert_close(make(later)(x, t), expected, 1e-6)
        assert_close(make(null)(x, t), expected, 1e-6)
    at_0 = guidance.classifier_free(toward, y, later, 0)
    assert_close(at_0(x, jnp.full(2, 0.8)), jnp.full((2, 1), 10.0), 1e-6)


def test_a_side_without_weight_may_be_infinite():
    unguided, guided, t = jnp.array([[1.0], [jnp.inf]]), jnp.array([[jnp.nan], [2.0]]), jnp.zeros(2)
    mixed = guidance.affine(unguided, guided, jnp.array([0.0, 1.0]), t)
    assert_close(mixed, jnp.array([[1.0], [2.0]]), 0)


def test_the_scale_can_be_differentiated(float64):
    """Also at 0 and 1, where a side has no weight: d/dw is the difference of the two."""
    unguided, guided, t = jnp.array([[1.0]]), jnp.array([[3.0]]), jnp.zeros(1)
    slopes = jax.vmap(jax.grad(lambda w: guidance.affine(unguided, guided, w, t).sum()))(
        jnp.array([0.0, 0.5, 1.0])
    )
    assert_close(slopes, jnp.full(3, 2.0), 1e-12)


@pytest.mark.requirement("R31")
def test_classifier_guidance_is_finite_at_the_data_end(path):
    """Also where the slope of beta is infinite, and b is not."""
    (x, _, y), t = inputs(), jnp.ones(16)
    still = lambda x, t: jnp.zeros_like(x)  # noqa: E731
    chex.assert_tree_all_finite(guidance.classifier(still, path, class_log_prob(path), y, 2.0)(x, t))


@pytest.mark.parametrize("w", [float("nan"), float("inf"), jnp.array([1.0, jnp.nan])])
def test_scale_that_is_not_finite_is_refused(w):
    _, _, y = inputs()
    with pytest.raises(ValueError, match="w = "):
        guidance.classifier_free(field(paths.Linear()), y, jnp.array(NULL), w)
    with pytest.raises(ValueError, match="w = "):
        guidance.classifier(lambda x, t: x, paths.Linear(), class_log_prob(paths.Linear()), y, w)


@pytest.mark.requirement("R43")
def test_null_row_does_not_depend_on_the_scale():
    x, t, _ = inputs(4)
    y = jnp.full(4, NULL)
    rows = [
        guidance.classifier_free(field(paths.Linear()), y, jnp.array(NULL), w)(x, t) for w in (0.0, 1.0, 7.0)
    ]
    assert_close(rows[2], rows[0], 1e-5)
    assert_close(rows[1], rows[0], 1e-5)


@pytest.mark.requirement("R50")
def test_vmap_over_w_equals_the_loop_and_compiles_once():
    x, _, y = inputs(8)
    path = paths.Linear()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def sweep(scales):
        def one(w):
            guided = guidance.classifier_free(field(path), y, jnp.array(NULL), w)
            return sampling.sample_ode(guided, x, times.uniform(10))

        return jax.vmap(one)(scales)

    scales = jnp.array([0.0, 1.0, 2.5, 4.0])
    swept = sweep(scales)
    sweep(scales + 1)
    for w, images in zip(scales, swept, strict=True):
        guided = guidance.classifier_free(field(path), y, jnp.array(NULL), float(w))
        assert_close(images, sampling.sample_ode(guided, x, times.uniform(10)), 1e-5)


RULES = {  # (path, y, w) -> the rule, at its neutral options where it has such
    "classifier_free": lambda path, y, w: guidance.classifier_free(field(path), y, jnp.array(NULL), w),
    "interval": lambda path, y, w: guidance.classifier_free(
        field(path), y, jnp.array(NULL), guidance.interval(w, 0, 1)
    ),
    "several": lambda path, y, w: guidance.several(field(path), [y], jnp.array(NULL), [w]),
    "autoguidance": lambda path, y, w: guidance.autoguidance(
        field(path), lambda x, t, y: field(path)(x, t, jnp.full_like(y, NULL)), y, w
    ),
    "rescaled": lambda path, y, w: guidance.rescaled(field(path), y, jnp.array(NULL), w, share=0.0),
    "projected": lambda path, y, w: guidance.projected(
        field(path), path, y, jnp.array(NULL), w, parallel=1.0
    ),
    "zero_star": lambda path, y, w: guidance.zero_star(field(path), y, jnp.array(NULL), w, still_until=0.0),
    "rectified": lambda path, y, w: guidance.rectified(field(path), y, jnp.array(NULL), w, ahead=0.0),
}


def call(rule, x, t):
    if isinstance(rule, StatefulField):
        return rule.call(x, t, rule.start(x))[0]
    return rule(x, t)


@pytest.mark.requirement("R40")
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
def test_every_rule_at_its_neutral_options(name, w, float64):
    """(1 - w) u(x) + w u(x | y): all rules but CFG-Zero* are then that; and that one, too, at w = 1."""
    (x, t, y), path = inputs(), paths.Cosine()
    unguided, conditional = (field(path)(x, t, labels) for labels in (jnp.full_like(y, NULL), y))
    if name == "zero_star":
        along = jnp.sum(conditional * unguided, axis=1, keepdims=True)
        unguided = along / jnp.sum(unguided**2, axis=1, keepdims=True) * unguided
    for scale in (w, jnp.array(w), jnp.full(len(y), w)):
        guided = call(RULES[name](path, y, scale), x, t)
        assert_close(guided, (1 - w) * unguided + w * conditional, 1e-12)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_the_conditional_model_at_w_1_whatever_its_options(name, float64):
    x, t, y = inputs()
    path, null = paths.Linear(), jnp.array(NULL)
    options = {
        "rescaled": lambda w: guidance.rescaled(field(path), y, null, w, share=0.7),
        "projected": lambda w: guidance.projected(
            field(path), path, y, null, w, parallel=0.3, limit=0.1, momentum=-0.5
        ),
        "zero_star": lambda w: guidance.zero_star(field(path), y, null, w, still_until=0.01),
        "rectified": lambda w: guidance.rectified(field(path), y, null, w, ahead=0.05, decay=1.0),
        "interval": lambda w: guidance.classifier_free(field(path), y, null, guidance.interval(w, 0.2, 0.7)),
    }
    for scale in (1, 1.0, jnp.array(1.0)):
        rule = options[name](scale) if name in options else RULES[name](path, y, scale)
        assert_close(call(rule, x, t), field(path)(x, t, y), 1e-12)


def test_interval_guides_inside_and_calls_the_conditional_model_alone_elsewhere(float64):
    """The number of examples that the field is called with, counted while the program runs."""
    sizes = []

    def counting(x, t, y):
        jax.debug.callback(lambda: sizes.append(x.shape[0]))
        return field(paths.Linear())(x, t, y)

    x, _, y = inputs(4)
    scale = guidance.interval(3.0, 0.2, 0.7)
    guided = guidance.classifier_free(counting, y, jnp.array(NULL), scale)
    ramp = guidance.classifier_free(counting, y, jnp.array(NULL), lambda t: jnp.where(t < 0.5, 0.0, 2.0))
    for rule, time, w, size in (
        (guided, 0.1, 1.0, 4),
        (guided, 0.2, 3.0, 8),
        (guided, 0.7, 1.0, 4),
        (ramp, 0.4, 0.0, 4),
        (ramp, 0.6, 2.0, 8),
    ):
        t = jnp.full(4, time)
        sizes.clear()
        value = rule(x, t)
        jax.effects_barrier()
        assert sizes == [size]
        plain = guidance.classifier_free(field(paths.Linear()), y, jnp.array(NULL), jnp.array(w))
        assert_close(value, plain(x, t), 1e-12)


@pytest.mark.parametrize(
    ("rule", "w", "t", "sizes"),
    [
        ("zero_star", 3.0, 0.02, []),
        ("zero_star", 3.0, 0.5, [8]),
        ("rectified", 3.0, 0.5, [4, 8]),
        ("rectified", guidance.interval(3.0, 0.2, 0.7), 0.1, [4]),
        ("rescaled", guidance.interval(3.0, 0.2, 0.7), 0.1, [4]),
        ("several", 1.0, 0.5, [4]),
        ("several", 2.5, 0.5, [8]),
        ("several", 0, 0.5, [4]),
        ("projected", 1, 0.5, [4]),
        ("projected", 3.0, 0.5, [8]),
    ],
)
def test_no_rule_calls_the_model_without_need(rule, w, t, sizes):
    called = []

    def counting(x, t, y):
        jax.debug.callback(lambda: called.append(x.shape[0]), ordered=True)
        return field(paths.Linear())(x, t, y)

    x, _, y = inputs(4)
    null = jnp.array(NULL)
    guided = {
        "zero_star": lambda: guidance.zero_star(counting, y, null, w),
        "rectified": lambda: guidance.rectified(counting, y, null, w, ahead=0.05),
        "rescaled": lambda: guidance.rescaled(counting, y, null, w),
        "several": lambda: guidance.several(counting, [y], null, [w]),
        "projected": lambda: guidance.projected(counting, paths.Linear(), y, null, w),
    }[rule]()
    call(guided, x, jnp.full(4, t))
    jax.effects_barrier()
    assert called == sizes


def test_several_conditions_multiply_their_densities(float64):
    """Two independent features of data N(0, I): guided by both, each axis has its own condition."""
    path = paths.Linear()
    wide = mixtures.Mixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.eye(2)[None])
    laws = [
        wide,
        mixtures.Mixture(jnp.ones(1), jnp.array([[1.0, 0.0]]), jnp.diag(jnp.array([0.5, 1.0]))[None]),
        mixtures.Mixture(jnp.ones(1), jnp.array([[0.0, -1.0]]), jnp.diag(jnp.array([1.0, 0.3]))[None]),
    ]
    both = mixtures.Mixture(jnp.ones(1), jnp.array([[1.0, -1.0]]), jnp.diag(jnp.array([0.5, 0.3]))[None])

    def of_feature(x, t, y):
        values = jnp.stack([mixtures.velocity(law, path, x, t) for law in laws])
        return values[y, jnp.arange(x.shape[0])]

    x, t, _ = inputs()
    conditions = [jnp.full(16, 1), jnp.full(16, 2)]
    guided = guidance.several(of_feature, conditions, jnp.array(0), [1.0, 1.0])
    assert_close(guided(x, t), mixtures.velocity(both, path, x, t), 1e-12)
    one = guidance.several(of_feature, conditions, jnp.array(0), [2.5, 0])
    alone = guidance.classifier_free(of_feature, conditions[0], jnp.array(0), 2.5)
    assert_close(one(x, t), alone(x, t), 1e-12)


def test_a_negative_condition_in_the_place_of_null(float64):
    x, t, y = inputs()
    negative = (y + 1) % 3
    away = guidance.classifier_free(field(paths.Linear()), y, negative, 2.0)
    expected = 2 * field(paths.Linear())(x, t, y) - field(paths.Linear())(x, t, negative)
    assert_close(away(x, t), expected, 1e-12)


def test_autoguidance_calls_each_model_once_and_none_without_weight():
    x, t, y = inputs(4)
    calls = []
    model = lambda name: lambda x, t, y: calls.append(name) or x  # noqa: E731
    for w, expected in ((0.0, ["worse"]), (1, ["better"]), (2.0, ["worse", "better"])):
        calls.clear()
        guidance.autoguidance(model("better"), model("worse"), y, w)(x, t)
        assert sorted(calls) == sorted(expected)


def test_rescaled_has_the_size_of_the_conditional_velocity(float64):
    image = jax.random.normal(jax.random.key(0), (4, 6, 6, 1))
    t, y = jnp.full(4, 0.5), jnp.arange(4.0)
    of_label = lambda x, t, y: x * (1 + y[:, None, None, None]) + jnp.sin(7 * x)  # noqa: E731
    for share in (0.0, 0.4, 1.0):
        guided = guidance.rescaled(of_label, y, jnp.array(9.0), 4.0, share=share)(image, t)
        plain = guidance.classifier_free(of_label, y, jnp.array(9.0), 4.0)(image, t)
        sizes = [v.std(axis=(1, 2, 3)) for v in (guided, plain, of_label(image, t, y))]
        assert_close(sizes[0], share * sizes[2] + (1 - share) * sizes[1], 1e-12)


def test_projected_against_its_definition_in_data(path, float64):
    """Two calls in a row: difference of data, momentum, limit, and the part along D(x | y)."""
    x, _, y = inputs()
    w, parallel, limit, momentum = 3.0, 0.2, 0.5, -0.4
    rule = guidance.projected(
        field(path), path, y, jnp.array(NULL), w, parallel=parallel, limit=limit, momentum=momentum
    )
    memory, running = rule.start(x), jnp.zeros_like(x)
    for time in (0.3, 0.6):
        t = jnp.full(16, time)
        data, unguided = (mixtures.denoise(three_components(), path, x, t, k) for k in (y, None))
        running = data - unguided + momentum * running
        norm = jnp.linalg.norm(running, axis=1, keepdims=True)
        cut = running * jnp.minimum(1, limit / norm)
        unit = data / jnp.linalg.norm(data, axis=1, keepdims=True)
        along = jnp.sum(cut * unit, axis=1, keepdims=True) * unit
        expected = data + (w - 1) * (cut - along + parallel * along)
        velocity, memory = rule.call(x, t, memory)
        got = predictions.convert(path, x, t, velocity, source="velocity", target="data")
        assert_close(got, expected, 1e-10)


def test_projected_carries_its_momentum_through_the_sampler(float64):
    """In the scan the memory is handed from step to step: the same as by hand."""
    x, _, y = inputs()
    path, grid = paths.Linear(), times.uniform(5).astype(x.dtype)
    rule = guidance.projected(field(path), path, y, jnp.array(NULL), 3.0, momentum=-0.5)
    point, memory = x, rule.start(x)
    for t, t_next in pairwise(grid):
        velocity, memory = rule.call(point, jnp.full(16, t), memory)
        point = point + (t_next - t) * velocity
    assert_close(sampling.sample_ode(rule, x, grid, solver=solvers.euler()), point, 1e-12)
    forgetful = guidance.projected(field(path), path, y, jnp.array(NULL), 3.0)
    assert jnp.max(jnp.abs(sampling.sample_ode(forgetful, x, grid, solver=solvers.euler()) - point)) > 1e-3


def test_zero_star_rests_first_and_then_takes_the_best_multiple(float64):
    """s u(x) is the multiple of u(x) nearest to u(x | y)."""
    x, t, y = inputs()
    path = paths.Linear()
    guided = guidance.zero_star(field(path), y, jnp.array(NULL), 3.0, still_until=0.3)(x, t)
    assert_close(guided[t < 0.3], jnp.zeros_like(guided[t < 0.3]), 0)
    projection = guidance.zero_star(field(path), y, jnp.array(NULL), 0.0, still_until=0.0)(x, t)
    unguided, conditional = field(path)(x, t, jnp.full_like(y, NULL)), field(path)(x, t, y)
    distance = lambda v: jnp.sum((v - conditional) ** 2, axis=1)  # noqa: E731
    assert_close(jnp.sum((conditional - projection) * unguided, axis=1), jnp.zeros(16), 1e-12)
    assert jnp.all(distance(projection) <= distance(1.01 * projection))
    assert_close(guided[t >= 0.3], (-2 * projection + 3 * conditional)[t >= 0.3], 1e-12)


def test_rectified_looks_half_a_step_ahead(float64):
    x, t, y = inputs()
    path, ahead = paths.Linear(), 0.01
    guided = guidance.rectified(field(path), y, jnp.array(NULL), 3.0, ahead=ahead, decay=2.0)(x, t)
    here = field(path)(x, t, y)
    there, later = x + ahead * here, t + ahead
    difference = field(path)(there, later, y) - field(path)(there, later, jnp.full_like(y, NULL))
    assert_close(guided, here + 2.0 * ((1 - t) ** 2)[:, None] * difference, 1e-12)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_samples_finitely_from_end_to_end_in_float32(name):
    """From t = 0 to t = 1, with a solver that looks at both."""
    x, _, y = inputs()
    rule = RULES[name](paths.Linear(), y, 3.0)
    end = sampling.sample_ode(rule, x, times.uniform(8), solver=solvers.heun())
    chex.assert_tree_all_finite(end)


FIELD = field(paths.Linear())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda y: guidance.interval(2.0, 0.7, 0.2), "start = 0.7"),
        (lambda y: guidance.interval(float("nan"), 0.2, 0.7), "w = nan"),
        (lambda y: guidance.rescaled(FIELD, y, jnp.array(NULL), 2.0, share=1.5), "share = 1.5"),
        (lambda y: guidance.zero_star(FIELD, y, jnp.array(NULL), 2.0, still_until=1.0), "still_until = 1"),
        (
            lambda y: guidance.projected(FIELD, paths.Linear(), y, jnp.array(NULL), 2.0, limit=0.0),
            "limit = 0",
        ),
        (
            lambda y: guidance.projected(FIELD, paths.Linear(), y, jnp.array(NULL), 2.0, momentum=1.0),
            "momentum = 1",
        ),
        (lambda y: guidance.rectified(FIELD, y, jnp.array(NULL), 2.0, ahead=-0.1), "ahead = -0.1"),
        (lambda y: guidance.several(FIELD, [y], jnp.array(NULL), [1.0, 2.0]), "1 conditions and 2 scales"),
        (lambda y: guidance.autoguidance(FIELD, FIELD, y, float("inf")), "w = inf"),
    ],
)
def test_impossible_options_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make(jnp.zeros(1, jnp.int32))


@pytest.mark.requirement("R36")
def test_any_path_can_be_guided(float64):
    """On a bridge between data sets, where there is no score and no classifier: the affine rule itself."""
    source = mixtures.Mixture(jnp.ones(1), jnp.array([[-3.0, 0.0]]), 0.2 * jnp.eye(2)[None])
    mixture = three_components()
    one = mixtures.Mixture(jnp.ones(1), mixture.means[:1], mixture.covariances[:1])

    def bridge(x, t, y):
        given, unguided = (mixtures.bridge_velocity(source, m, x, t) for m in (one, mixture))
        return jnp.where((y == 0)[:, None], given, unguided)

    x, t, _ = inputs()
    y = jnp.zeros(16, jnp.int32)
    guided = guidance.classifier_free(bridge, y, jnp.array(NULL), 2.5)
    assert_close(guided(x, t), -1.5 * bridge(x, t, y + NULL) + 2.5 * bridge(x, t, y), 1e-12)


@pytest.mark.requirement("R45", "R47")
def test_guided_score_follows_the_same_rule(path, float64):
    """The score of the guided field is (1 - w) score(x) + w score(x | y): one network gives both."""
    x, t, y = inputs()
    for w in (0.0, 1.0, 3.5):
        guided = guidance.classifier_free(field(path), y, jnp.array(NULL), w)
        score = lambda y: mixtures.score(three_components(), path, x, t, y)  # noqa: E731
        assert_close(fields.score(guided, path)(x, t), (1 - w) * score(None) + w * score(y), 1e-9)


@pytest.mark.requirement("R20", "R21")
@pytest.mark.parametrize("event", [(8, 8, 3), (4, 8, 8, 3)], ids=["image", "video"])
@pytest.mark.parametrize("kind", ["class", "vector", "text"])
def test_images_and_videos_on_conditions_of_any_kind(event, kind):
    """One API from the loss through guidance to the sampler, for classes, vectors and masked tokens."""
    b = 4
    y, null = {
        "class": (jnp.arange(b), jnp.array(10)),
        "vector": (jnp.ones((b, 5)), jnp.zeros(5)),
        "text": (
            {"tokens": jnp.ones((b, 7, 5)), "mask": jnp.arange(7)[None] < jnp.arange(1, b + 1)[:, None]},
            {"tokens": jnp.zeros((7, 5)), "mask": jnp.zeros(7, bool)},
        ),
    }[kind]

    def model(x, t, y):
        if kind == "text":
            summed = jnp.sum(y["tokens"] * y["mask"][..., None].astype(jnp.float32), axis=(1, 2))
        else:
            summed = y.astype(jnp.float32).reshape(x.shape[0], -1).sum(axis=1)
        return per_example.expand(summed, x) - x

    key, path = jax.random.key(0), paths.Linear()
    data = jax.random.normal(key, (b, *event))
    loss = losses.classifier_free(losses.flow_matching, null, 0.5)(key, model, path, data, y)
    chex.assert_shape(loss, (b,))
    guided = guidance.classifier_free(model, y, null, 2.0)
    sample = sampling.sample_ode(guided, data, times.uniform(3))
    chex.assert_equal_shape([sample, data])
    for i in range(b):
        only = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], y)
        alone = guidance.classifier_free(model, only, null, 2.0)
        assert_close(sampling.sample_ode(alone, data[i : i + 1], times.uniform(3)), sample[i : i + 1], 1e-5)


@pytest.mark.requirement("R10")
@pytest.mark.parametrize("name", RULES)
def test_every_rule_keeps_bfloat16_with_times_in_float32(name):
    """A network in bfloat16 sees float32 times; what comes back is bfloat16, near the float32 answer."""
    seen = []

    def half(path):
        def model(x, t, y):
            seen.append(t.dtype)
            return field(path)(x.astype(jnp.float32), t, y).astype(jnp.bfloat16)

        return model

    (x, _, y), path = inputs(), paths.Linear()
    narrow = jnp.bfloat16
    rule = {
        "several": lambda w: guidance.several(half(path), [y], jnp.array(NULL), [w]),
        "autoguidance": lambda w: guidance.autoguidance(
            half(path), lambda x, t, y: half(path)(x, t, jnp.full_like(y, NULL)), y, w
        ),
        "rescaled": lambda w: guidance.rescaled(half(path), y, jnp.array(NULL), w, share=0.0),
        "projected": lambda w: guidance.projected(half(path), path, y, jnp.array(NULL), w, parallel=1.0),
        "zero_star": lambda w: guidance.zero_star(half(path), y, jnp.array(NULL), w, still_until=0.0),
        "rectified": lambda w: guidance.rectified(half(path), y, jnp.array(NULL), w, ahead=0.0),
        "interval": lambda w: guidance.classifier_free(
            half(path), y, jnp.array(NULL), guidance.interval(w, 0, 1)
        ),
    }.get(name, lambda w: guidance.classifier_free(half(path), y, jnp.array(NULL), w))
    end = sampling.sample_ode(rule(2.0), x.astype(narrow), times.uniform(8))
    assert end.dtype == narrow
    assert set(seen) == {jnp.dtype("float32")}
    wide = sampling.sample_ode(RULES[name](path, y, 2.0), x, times.uniform(8))
    assert jnp.mean(jnp.abs(end.astype(jnp.float32) - wide)) < 0.1
