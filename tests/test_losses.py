import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_expected, three_components

from jaxflow import losses, mixtures, paths, per_example, predictions, times

NULL = 3


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
@pytest.mark.requirement("R37")
def test_drop_rate(rate):
    n = 100_000
    y = jnp.arange(n) % 3
    dropped = losses.drop_condition(jax.random.key(0), y, jnp.array(NULL), rate) == NULL
    if 0 < rate < 1:
        assert_expected(dropped, rate, 6)
    else:
        assert jnp.all(dropped == bool(rate))


@pytest.mark.requirement("R37")
def test_dropped_together_with_all_its_parts_and_independent_of_the_batch():
    key = jax.random.key(1)
    y = {"class": jnp.arange(64), "vector": jnp.ones((64, 2))}
    null = {"class": jnp.array(-1), "vector": jnp.zeros(2)}
    out = losses.drop_condition(key, y, null, 0.5)
    assert_close((out["class"] == -1)[:, None].astype(jnp.float32) * jnp.ones((1, 2)), 1 - out["vector"], 0)
    head = losses.drop_condition(key, jax.tree.map(lambda leaf: leaf[:5], y), null, 0.5)
    assert_close(head, jax.tree.map(lambda leaf: leaf[:5], out), 0)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_rate_outside_of_0_1_is_refused(rate):
    with pytest.raises(ValueError, match="rate = "):
        losses.drop_condition(jax.random.key(0), jnp.zeros(2, jnp.int32), jnp.array(1), rate)


def test_exact_field_reaches_the_floor_and_no_other_does():
    """For N(m, diag v) on the linear path the least loss is (pi / 2) sum sqrt(v)."""
    v = jnp.array([0.25, 2.0])
    mixture = mixtures.Mixture(jnp.ones(1), jnp.array([[1.0, -1.0]]), jnp.diag(v)[None])
    data, y = mixtures.sample(jax.random.key(0), mixture, 200_000)
    path, floor = paths.Linear(), jnp.pi / 2 * jnp.sum(jnp.sqrt(v))

    def loss(scale):
        field = lambda x, t, y: scale * mixtures.velocity(mixture, path, x, t, y)  # noqa: E731
        return losses.flow_matching(jax.random.key(1), field, path, data, y)

    assert_expected(loss(1.0), floor, 6)
    for scale in (0.7, 1.3):
        values = loss(scale)
        assert values.mean() > floor + 5 * values.std() / len(values) ** 0.5


@pytest.mark.requirement("R25")
def test_the_target_never_sees_the_condition():
    data = jax.random.normal(jax.random.key(0), (8, 2))
    still = lambda x, t, y: jnp.zeros_like(x)  # noqa: E731
    one, other = (
        losses.flow_matching(jax.random.key(1), still, paths.Linear(), data, jnp.full(8, k)) for k in (0, 2)
    )
    assert_close(one, other, 0)


@pytest.mark.requirement("R44")
def test_the_target_is_not_the_one_that_algorithm_5_prints():
    """A field that predicts data - noise has no loss; the printed target is minus that."""
    data = jax.random.normal(jax.random.key(0), (8, 2))
    perfect = lambda x, t, y: (data - x) / (1 - t[:, None])  # noqa: E731
    right = losses.flow_matching(jax.random.key(1), perfect, paths.Linear(), data, jnp.zeros(8, jnp.int32))
    wrong = losses.flow_matching(
        jax.random.key(1), lambda x, t, y: -perfect(x, t, y), paths.Linear(), data, jnp.zeros(8, jnp.int32)
    )
    assert_close(right, jnp.zeros(8), 1e-6)
    assert jnp.all(wrong > 0.1)


def test_an_example_draws_the_same_in_any_batch():
    data = jax.random.normal(jax.random.key(0), (8, 2))
    still = lambda x, t, y: jnp.zeros_like(x)  # noqa: E731
    y = jnp.zeros(8, jnp.int32)
    batch = losses.flow_matching(jax.random.key(1), still, paths.Linear(), data, y)
    keys = per_example.keys(jax.random.key(1), 8)
    part = losses.flow_matching(keys[5:], still, paths.Linear(), data[5:], y[5:])
    assert_close(batch[5:], part, 0)


@pytest.mark.requirement("R9")
@pytest.mark.parametrize("kind", ["velocity", "score"])
def test_marginal_and_conditional_loss_differ_by_a_constant(path, kind, float64):
    """L_FM = L_CFM + const with equal gradients, the expectations over data and noise by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    means, deviations, parts = jnp.array([-1.0, 0.7]), jnp.array([0.8, 0.6]), jnp.array([0.4, 0.6])
    mixture = mixtures.Mixture(parts, means[:, None], (deviations**2)[:, None, None])
    grid = means[:, None] + deviations[:, None] * jnp.asarray(nodes)[None]
    data, noise = (g.ravel()[:, None] for g in jnp.meshgrid(grid.ravel(), jnp.asarray(nodes), indexing="ij"))
    of_data = (parts[:, None] * jnp.asarray(weights / weights.sum())[None]).ravel()
    mass = jnp.outer(of_data, jnp.asarray(weights / weights.sum())).ravel()
    conditional = {
        "velocity": lambda t: paths.conditional_velocity(path, data, noise, t),
        "score": lambda t: paths.conditional_score(path, noise, t),
    }[kind]
    marginal = {"velocity": mixtures.velocity, "score": mixtures.score}[kind]

    def losses_of(theta, t):
        t = jnp.full(len(data), t)
        x = paths.interpolate(path, data, noise, t)
        model = theta[0] * x + theta[1] * jnp.tanh(x) + theta[2]
        targets = marginal(mixture, path, x, t), conditional(t)
        return jnp.stack([jnp.sum(mass * jnp.sum((model - target) ** 2, axis=1)) for target in targets])

    for t in (0.1, 0.5, 0.7):
        thetas = jnp.array([[0.0, 0.0, 0.0], [1.0, -2.0, 0.5], [-0.3, 1.0, -1.0]])
        values = jnp.stack([losses_of(theta, t) for theta in thetas])
        constant = values[:, 1] - values[:, 0]
        assert float(constant[0]) > 1e-4  # they are not the same loss
        assert_close(constant, jnp.full(3, constant[0]), 1e-7)
        jacobian = jax.jacobian(losses_of)(thetas[1], t)
        assert_close(jacobian[0], jacobian[1], 1e-7)


def exact_models(mixture, path):
    """Velocity, score, noise, data and v of the mixture as networks (x, t, y)."""

    def noise(x, t, y):
        return -path.beta(t)[:, None] * mixtures.score(mixture, path, x, t, y)

    return {
        "velocity": lambda x, t, y: mixtures.velocity(mixture, path, x, t, y),
        "score": lambda x, t, y: mixtures.score(mixture, path, x, t, y),
        "noise": noise,
        "data": lambda x, t, y: mixtures.denoise(mixture, path, x, t, y),
        "v": lambda x, t, y: (
            path.alpha(t)[:, None] * noise(x, t, y)
            - path.beta(t)[:, None] * mixtures.denoise(mixture, path, x, t, y)
        ),
    }


KINDS = ["velocity", "score", "noise", "data", "v"]


@pytest.mark.requirement("R11", "R46")
def test_every_parametrisation_has_the_same_loss_but_for_its_weight(path, float64):
    """Sample by sample, with the same t and noise; of the score beta^2 is in the loss already."""
    mixture = three_components()
    data, y = mixtures.sample(jax.random.key(0), mixture, 256)
    law = times.law(lambda u: 0.01 + 0.98 * u)
    values = {}
    for kind, model in exact_models(mixture, path).items():

        def disturbed(x, t, y, model=model, kind=kind):
            gain = predictions.gain(path, t, source="velocity", target=kind)
            return model(x, t, y) + 0.3 * gain[:, None] * jnp.tanh(x)

        weight = losses.velocity_weight(path, kind)
        values[kind] = losses.flow_matching(
            jax.random.key(1), disturbed, path, data, y, prediction=kind, time_law=law, weight=weight
        )
    for kind in KINDS[1:]:
        assert_close(values[kind], values["velocity"], 1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_of_the_velocity_is_the_gain_and_bounded_where_a_limit_is_given(path, kind):
    """The square of b / beta for the noise and so on; at the ends infinite or finite, never nan."""
    t = jnp.array([0.0, 0.3, 0.8, 1.0])
    inner = slice(1, 3)
    weights = losses.velocity_weight(path, kind)(t)
    assert not jnp.any(jnp.isnan(weights))
    b, alpha, beta = predictions.score_weight(path, t), path.alpha(t), path.beta(t)
    factor = {
        "velocity": jnp.ones(4),
        "noise": b / beta,
        "score": b / beta,
        "data": b * alpha / beta**2,
        "v": b * alpha / beta / (alpha**2 + beta**2),
    }[kind]
    assert_close(weights[inner], factor[inner] ** 2, 1e-4)
    limited = losses.velocity_weight(path, kind, limit=2.0)(t)
    assert_close(limited, jnp.minimum(weights, 2.0), 0)


def test_a_limit_that_is_no_limit_is_refused():
    with pytest.raises(ValueError, match="limit = 0"):
        losses.velocity_weight(paths.Linear(), "data", limit=0.0)


@pytest.mark.requirement("R46")
def test_the_loss_of_the_score_is_finite_where_the_score_is_not():
    """At t = 1 the score of a point is infinite, and the weight beta^2 takes its infinity away."""
    data = jnp.ones((4, 2))
    at_end = times.law(lambda u: jnp.ones_like(u))
    still = lambda x, t, y: jnp.zeros_like(x)  # noqa: E731
    values = losses.flow_matching(
        jax.random.key(0), still, paths.Linear(), data, None, prediction="score", time_law=at_end
    )
    assert jnp.all(jnp.isfinite(values))
    assert jnp.all(values > 0)


@pytest.mark.requirement("R46", "R37")
@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_splits_where_the_condition_is_dropped(kind, float64):
    """L_CFG = (1 - eta) L_guided + eta L_unguided: each example is one or the other, in that proportion."""
    mixture, path, eta = three_components(), paths.Linear(), 0.3
    data, y = mixtures.sample(jax.random.key(0), mixture, 4096)
    seen = []

    def model(x, t, y):
        seen.append(y)
        return 1.3 * exact_models(mixture, path)[kind](x, t, y)

    law = times.law(lambda u: 0.01 + 0.98 * u)
    loss = partial(losses.flow_matching, prediction=kind, time_law=law)
    dropped = losses.classifier_free(loss, jnp.array(NULL), eta)(jax.random.key(1), model, path, data, y)
    conditions = seen[0]
    keys = jax.vmap(jax.random.split)(per_example.keys(jax.random.key(1), 4096))[:, 1]
    for label, rows in ((y, conditions != NULL), (jnp.full_like(y, NULL), conditions == NULL)):
        alone = loss(keys, model, path, data, label)
        assert_close(jnp.where(rows, dropped, 0), jnp.where(rows, alone, 0), 1e-12)
    assert_expected((conditions == NULL).astype(float), eta, 6)


@pytest.mark.requirement("R38")
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_no_dropping_and_nothing_but_dropping(rate):
    """At eta = 0 the network never sees null, at eta = 1 nothing else."""
    seen = []

    def model(x, t, y):
        seen.append(y)
        return x

    y = jnp.arange(64) % 3
    loss = losses.classifier_free(losses.flow_matching, jnp.array(NULL), rate)
    loss(jax.random.key(0), model, paths.Linear(), jnp.ones((64, 2)), y)
    assert_close(seen[0], jnp.full_like(y, NULL) if rate else y, 0)


@pytest.mark.requirement("R39")
def test_the_loss_is_a_sum_over_the_event():
    data = jax.random.normal(jax.random.key(0), (8, 2, 3))
    keys = per_example.keys(jax.random.key(1), 8)
    still = lambda x, t, y: jnp.zeros_like(x)  # noqa: E731
    values = losses.flow_matching(keys, still, paths.Linear(), data, None)
    noise = per_example.normal(jax.vmap(jax.random.split)(keys)[:, 1], (2, 3))
    assert_close(values, jnp.sum((data - noise) ** 2, axis=(1, 2)), 1e-6)


@pytest.mark.requirement("R14")
def test_the_exact_bridge_minimises_the_loss_between_two_data_sets(float64):
    """Its loss does not fall in any direction: the mean gradient is zero, within its error."""
    source = mixtures.Mixture(
        jnp.array([0.5, 0.5]), jnp.array([[-2.0, 0.0], [2.0, 0.0]]), 0.3 * jnp.stack([jnp.eye(2)] * 2)
    )
    target, n = three_components(), 20_000
    noise, _ = mixtures.sample(jax.random.key(0), source, n)
    data, y = mixtures.sample(jax.random.key(1), target, n)

    def loss(theta):
        def field(x, t, y):
            return mixtures.bridge_velocity(source, target, x, t) + theta[0] * x + theta[1] * jnp.sin(3 * x)

        return losses.flow_matching(jax.random.key(2), field, paths.Straight(), data, y, noise=noise)

    assert_expected(jax.jacfwd(loss)(jnp.zeros(2)), jnp.zeros(2), 6)


@pytest.mark.parametrize("law", ["uniform", "mode"])
def test_weighted_and_stratified_times_leave_the_mean_as_it_is(law, float64):
    """Of a function of t with a known integral, and with less variance when stratified."""
    n, repeats = 64, 400
    make = {"uniform": times.uniform_law, "mode": partial(times.mode_law, 1.29, unbiased=True)}[law]

    def means(stratified):
        u = jax.random.uniform(jax.random.key(0), (repeats, n))
        t, weight = jax.vmap(make(stratified=stratified))(u)
        return jnp.mean(weight * jnp.exp(2 * t), axis=1)

    exact = (np.exp(2.0) - 1) / 2
    assert_expected(means(False), exact, 6)
    assert_expected(means(True), exact, 6)
    assert means(True).std() < means(False).std() / 20


@pytest.mark.requirement("R14")
@pytest.mark.parametrize("kind", ["score", "v"])
def test_no_score_is_matched_on_a_bridge(kind):
    still = lambda x, t, y: jnp.zeros_like(x)  # noqa: E731
    with pytest.raises(TypeError, match="Gaussian"):
        losses.flow_matching(
            jax.random.key(0), still, paths.Straight(), jnp.ones((4, 2)), None, prediction=kind
        )


@pytest.mark.parametrize("wrong", [lambda x: x[:, 0], lambda x: jnp.sum(x)], ids=["(b,)", "scalar"])
def test_an_answer_of_another_shape_is_refused(wrong):
    """(b,) against (b, 1) would be broadcast to (b, b): every example with the targets of all."""
    with pytest.raises(ValueError, match=r"the field answers \(4?,?\) to x of shape \(4, 1\)"):
        losses.flow_matching(
            jax.random.key(0), lambda x, t, y: wrong(x), paths.Linear(), jnp.ones((4, 1)), None
        )


def test_what_would_be_broadcast_is_refused():
    """Also where no annotation is checked, as for users."""
    still, data = (lambda x, t, y: jnp.zeros_like(x)), jnp.ones((4, 1))
    flow_matching = inspect.unwrap(losses.flow_matching)
    loss = partial(flow_matching, jax.random.key(0), still, paths.Linear(), data, None)
    with pytest.raises(ValueError, match=r"noise of shape \(1, 1\) for data of shape \(4, 1\)"):
        loss(noise=jnp.ones((1, 1)))
    with pytest.raises(ValueError, match="prediction = 'speed': allowed are velocity, score"):
        loss(prediction="speed")
    with pytest.raises(ValueError, match="broadcast"):
        loss(weight=lambda t: t[:, None])
    assert_close(loss(weight=lambda t: jnp.array(2.0)), 2 * loss(), 1e-6)


def test_the_rate_is_an_axis_of_a_sweep():
    """Traced it drops what the loop drops, with one key and with the keys of the examples."""
    y, data, rates = jnp.arange(64) % 3, jnp.ones((64, 1)), [0.0, 0.5, 1]
    keys = per_example.keys(jax.random.key(0), 64)
    toward = lambda x, t, y: y[:, None].astype(x.dtype) - x  # noqa: E731

    def loss(rate, key=keys):
        dropping = losses.classifier_free(losses.flow_matching, jnp.array(NULL), rate)
        return dropping(key, toward, paths.Linear(), data, y)

    swept = jax.jit(jax.vmap(loss))(jnp.array(rates))
    assert_close(swept, jnp.stack([loss(rate) for rate in rates]), 1e-5)
    assert_close(loss(0.5, jax.random.key(0)), loss(0.5), 0)
