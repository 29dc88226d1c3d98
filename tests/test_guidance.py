import chex
import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close, assert_pairs, by_path_compiled, normal, on_all_paths, three_components
from exact_guidance import FIELD, NULL, class_log_prob, field, guided, inputs

from jaxflow import fields, guidance, losses, mixtures, paths, per_example, sampling, times

SCALES = jnp.array(3 * [0.0] + 3 * [1.0] + 3 * [3.5] + 7 * [-1.0])
"""Scales of 16 examples; under each all labels occur."""


@pytest.mark.requirement("R40")
def test_no_scale_is_the_unguided_field_and_one_the_conditional(float64):
    (x, t, y), model, pairs = inputs(), jax.jit(field(paths.Cosine())), {}
    unguided, conditional = model(x, t, jnp.full_like(y, NULL)), model(x, t, y)
    for w in (0, 0.0, 1, 1.0):
        scales = (w, jnp.array(float(w)), jnp.full(len(y), float(w)), lambda t, w=w: jnp.full_like(t, w))
        for i, scale in enumerate(scales):
            guided = guidance.classifier_free(model, y, jnp.array(NULL), scale)
            pairs[f"w = {w!r}, {i}"] = guided(x, t), conditional if w == 1 else unguided
    assert_pairs(pairs, 1e-12)


@pytest.mark.requirement("R31", "R33")
def test_classifier_free_is_classifier_guidance_with_the_exact_classifier(float64):
    """u(x) + w b grad log p(y | x) = (1 - w) u(x) + w u(x | y)."""

    x, t, y = inputs()

    def both(path):
        unguided = lambda x, t: field(path)(x, t, jnp.full_like(y, NULL))  # noqa: E731
        classifier = guidance.classifier(unguided, path, class_log_prob(path), y, SCALES)(x, t)
        free = guidance.classifier_free(field(path), y, jnp.array(NULL), SCALES)(x, t)
        return (classifier, guided("by_classifier", path, y, SCALES)(x, t)), (free, free)

    assert_close(*on_all_paths(both, t), 1e-9)


@pytest.mark.parametrize("name", ["linear", "cosine", "square_root"])
@pytest.mark.requirement("R31")
def test_classifier_guidance_at_the_noise_end(name, float64):
    """w alpha' (E[data | y] - E[data]); b is infinite there and the gradient zero."""
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
    batch = guidance.classifier_free(FIELD, y, jnp.array(NULL), w)(x, t)
    for i in range(4):
        alone = guidance.classifier_free(FIELD, y[i : i + 1], jnp.array(NULL), float(w[i]))
        assert_close(batch[i : i + 1], alone(x[i : i + 1], t[i : i + 1]), 1e-5)
    ramp = guidance.classifier_free(FIELD, y, jnp.array(NULL), lambda t: 4 * t)(x, t)
    same = guidance.classifier_free(FIELD, y, jnp.array(NULL), 4 * t)(x, t)
    assert_close(ramp, same, 1e-5)


@pytest.mark.requirement("R21")
def test_condition_of_any_structure():
    y = {"class": jnp.array([0, 1]), "vector": jnp.ones((2, 3))}
    null = {"class": jnp.array(9), "vector": jnp.zeros(3)}
    guided = guidance.classifier_free(lambda x, t, y: y["vector"], y, null, 2.0)
    assert_close(guided(jnp.zeros((2, 3)), jnp.zeros(2)), jnp.full((2, 3), 2.0), 0)


@pytest.mark.parametrize("rule", ["classifier_free", "several", "rescaled"])
def test_null_may_differ_by_sample_and_change_with_time(rule):
    """Null is 0 or 1 by sample before t = 0.5, and 10 afterwards; the field leads to its condition."""
    by_sample = jnp.array([0.0, 1.0])
    later = lambda t: jnp.where(t < 0.5, by_sample, 10.0)  # noqa: E731
    toward = lambda x, t, y: y[:, None] - x  # noqa: E731
    y, x, w = jnp.array([3.0, 4.0]), jnp.zeros((2, 1)), 3.0
    make = {
        "classifier_free": lambda null: guidance.classifier_free(toward, y, null, w),
        "several": lambda null: guidance.several(toward, [y], null, [w]),
        "rescaled": lambda null: guidance.rescaled(phi=0.0)(toward, y, null, w),
    }[rule]
    for t, null in ((jnp.full(2, 0.2), by_sample), (jnp.full(2, 0.8), jnp.full(2, 10.0))):
        expected = ((1 - w) * null + w * y)[:, None]
        assert_close(make(later)(x, t), expected, 1e-6)
        assert_close(make(null)(x, t), expected, 1e-6)
    at_0 = guidance.classifier_free(toward, y, later, 0)
    assert_close(at_0(x, jnp.full(2, 0.8)), jnp.full((2, 1), 10.0), 1e-6)


def test_a_term_without_weight_may_be_infinite():
    unguided, guided, t = jnp.array([[1.0], [jnp.inf]]), jnp.array([[jnp.nan], [2.0]]), jnp.zeros(2)
    mixed = guidance.affine(unguided, guided, jnp.array([0.0, 1.0]), t)
    assert_close(mixed, jnp.array([[1.0], [2.0]]), 0)


def test_the_scale_can_be_differentiated(float64):
    """Also at 0 and 1, where one term has no weight: d/dw is the difference of the two."""
    unguided, guided, t = jnp.array([[1.0]]), jnp.array([[3.0]]), jnp.zeros(1)
    slopes = jax.vmap(jax.grad(lambda w: guidance.affine(unguided, guided, w, t).sum()))(
        jnp.array([0.0, 0.5, 1.0])
    )
    assert_close(slopes, jnp.full(3, 2.0), 1e-12)


@pytest.mark.requirement("R31")
def test_classifier_guidance_is_finite_at_the_data_end():
    """Also where the slope of beta is infinite; b is not."""
    still = lambda x, t: jnp.zeros_like(x)  # noqa: E731

    def guided(path, x, t, y):
        return guidance.classifier(still, path, class_log_prob(path), y, 2.0)(x, jnp.ones_like(t))

    chex.assert_tree_all_finite(by_path_compiled(guided, *inputs()))


@pytest.mark.parametrize("w", [float("nan"), float("inf"), jnp.array([1.0, jnp.nan])])
def test_scales_must_be_finite(w):
    _, _, y = inputs()
    with pytest.raises(ValueError, match="w = "):
        guidance.classifier_free(field(paths.Linear()), y, jnp.array(NULL), w)
    with pytest.raises(ValueError, match="w = "):
        guidance.classifier(lambda x, t: x, paths.Linear(), class_log_prob(paths.Linear()), y, w)


@pytest.mark.requirement("R43")
def test_null_row_does_not_depend_on_the_scale():
    x, t, _ = inputs(4)
    y = jnp.full(4, NULL)
    rows = [guidance.classifier_free(FIELD, y, jnp.array(NULL), w)(x, t) for w in (0.0, 1.0, 7.0)]
    assert_close(rows[2], rows[0], 1e-5)
    assert_close(rows[1], rows[0], 1e-5)


@pytest.mark.requirement("R50")
def test_vmap_over_w_equals_the_loop_and_compiles_once():
    x, _, y = inputs(8)

    def end(w):
        guided = guidance.classifier_free(FIELD, y, jnp.array(NULL), w)
        return sampling.sample_ode(guided, x, times.uniform(10))

    @jax.jit
    @chex.assert_max_traces(n=1)
    def sweep(scales):
        return jax.vmap(end)(scales)

    scales = [0.0, 1.0, 2.5, 4.0]
    swept = sweep(jnp.array(scales))
    sweep(jnp.array(scales) + 1)
    assert_close(swept, jax.jit(lambda: jnp.stack([end(w) for w in scales]))(), 1e-5)


def test_several_conditions_multiply_their_densities(float64):
    """Data N(0, I) with two independent features, each the condition of one axis."""
    path = paths.Linear()
    wide = mixtures.Mixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.eye(2)[None])
    laws = [
        wide,
        mixtures.Mixture(jnp.ones(1), jnp.array([[1.0, 0.0]]), jnp.diag(jnp.array([0.5, 1.0]))[None]),
        mixtures.Mixture(jnp.ones(1), jnp.array([[0.0, -1.0]]), jnp.diag(jnp.array([1.0, 0.3]))[None]),
    ]
    both = mixtures.Mixture(jnp.ones(1), jnp.array([[1.0, -1.0]]), jnp.diag(jnp.array([0.5, 0.3]))[None])

    @jax.jit
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


def test_a_negative_condition_replaces_null(float64):
    x, t, y = inputs()
    negative = (y + 1) % 3
    away = guidance.classifier_free(FIELD, y, negative, 2.0)
    expected = 2 * FIELD(x, t, y) - FIELD(x, t, negative)
    assert_close(away(x, t), expected, 1e-12)


@pytest.mark.requirement("R36")
def test_any_path_can_be_guided(float64):
    """Even a bridge between data sets, which has no score and no classifier: by the affine rule itself."""
    source = mixtures.Mixture(jnp.ones(1), jnp.array([[-3.0, 0.0]]), 0.2 * jnp.eye(2)[None])
    mixture = three_components()
    one = mixtures.Mixture(jnp.ones(1), mixture.means[:1], mixture.covariances[:1])

    @jax.jit
    def bridge(x, t, y):
        given, unguided = (mixtures.bridge_velocity(source, m, x, t) for m in (one, mixture))
        return jnp.where((y == 0)[:, None], given, unguided)

    x, t, _ = inputs()
    y = jnp.zeros(16, jnp.int32)
    guided = guidance.classifier_free(bridge, y, jnp.array(NULL), 2.5)
    assert_close(guided(x, t), -1.5 * bridge(x, t, y + NULL) + 2.5 * bridge(x, t, y), 1e-12)


@pytest.mark.requirement("R45", "R47")
def test_guided_score_follows_the_same_rule(float64):
    """The guided field has the score (1 - w) score(x) + w score(x | y): one network yields both."""

    x, t, y = inputs()

    def both(path):
        score = lambda y: mixtures.score(three_components(), path, x, t, y)  # noqa: E731
        guided = guidance.classifier_free(field(path), y, jnp.array(NULL), SCALES)
        w = SCALES[:, None].astype(x.dtype)
        return fields.score(guided, path)(x, t), (1 - w) * score(None) + w * score(y)

    assert_close(*on_all_paths(both, t), 1e-9)


@pytest.mark.requirement("R20", "R21")
@pytest.mark.parametrize("event", [(8, 8, 3), (4, 8, 8, 3)], ids=["image", "video"])
@pytest.mark.parametrize("kind", ["class", "vector", "text"])
def test_images_and_videos_on_conditions_of_any_kind(event, kind):
    """Loss, guidance and sampler share one API for classes, vectors and masked tokens."""
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
    data = normal(b, *event)
    loss = losses.classifier_free(losses.flow_matching, null, 0.5)
    chex.assert_shape(jax.jit(lambda: loss(key, model, path, data, y))(), (b,))
    sample = jax.jit(
        lambda y, noise: sampling.sample_ode(guidance.classifier_free(model, y, null, 2.0), noise, 3)
    )
    images = sample(y, data)
    chex.assert_equal_shape([images, data])
    for i in range(b):
        alone = sample(*jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], (y, data)))
        assert_close(alone, images[i : i + 1], 1e-5)
