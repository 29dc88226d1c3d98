import chex
import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close, three_components

from jaxflow import guidance, mixtures, paths, sampling, times

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


def test_a_side_without_weight_may_be_infinite():
    unguided, guided, t = jnp.array([[1.0], [jnp.inf]]), jnp.array([[jnp.nan], [2.0]]), jnp.zeros(2)
    mixed = guidance.affine(unguided, guided, jnp.array([0.0, 1.0]), t)
    assert_close(mixed, jnp.array([[1.0], [2.0]]), 0)


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
