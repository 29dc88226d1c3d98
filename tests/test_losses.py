import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import (
    assert_close,
    assert_expected,
    by_path,
    by_path_compiled,
    linspace,
    normal,
    on_all_paths,
    three_components,
)

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
def test_parts_of_a_condition_drop_together_and_independently_of_the_batch():
    key = jax.random.key(1)
    y = {"class": jnp.arange(64), "vector": jnp.ones((64, 2))}
    null = {"class": jnp.array(-1), "vector": jnp.zeros(2)}
    out = losses.drop_condition(key, y, null, 0.5)
    assert_close((out["class"] == -1)[:, None].astype(jnp.float32) * jnp.ones((1, 2)), 1 - out["vector"], 0)
    head = losses.drop_condition(key, jax.tree.map(lambda leaf: leaf[:5], y), null, 0.5)
    assert_close(head, jax.tree.map(lambda leaf: leaf[:5], out), 0)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_rates_must_be_in_0_1(rate):
    with pytest.raises(ValueError, match="rate = "):
        losses.drop_condition(jax.random.key(0), jnp.zeros(2, jnp.int32), jnp.array(1), rate)


def test_exact_field_reaches_the_floor_and_no_other_does():
    """For N(m, diag v) on the linear path the lowest loss is (pi / 2) sum sqrt(v)."""
    v = jnp.array([0.25, 2.0])
    mixture = mixtures.Mixture(jnp.ones(1), jnp.array([[1.0, -1.0]]), jnp.diag(v)[None])
    data, y = mixtures.sample(jax.random.key(0), mixture, 200_000)
    path, floor = paths.Linear(), jnp.pi / 2 * jnp.sum(jnp.sqrt(v))

    @jax.jit
    def loss(scale):
        field = lambda x, t, y: scale * mixtures.velocity(mixture, path, x, t, y)  # noqa: E731
        return losses.flow_matching(jax.random.key(1), field, path, data, y)

    assert_expected(loss(1.0), floor, 6)
    for scale in (0.7, 1.3):
        values = loss(scale)
        assert values.mean() > floor + 5 * values.std() / len(values) ** 0.5


@pytest.mark.requirement("R25")
def test_the_target_never_sees_the_condition():
    data = normal(8, 2)
    still = lambda x, t, y: jnp.zeros_like(x)  # noqa: E731
    one, other = (
        losses.flow_matching(jax.random.key(1), still, paths.Linear(), data, jnp.full(8, k)) for k in (0, 2)
    )
    assert_close(one, other, 0)


@pytest.mark.requirement("R44")
def test_the_target_is_not_the_one_that_algorithm_5_prints():
    """A field that predicts data - noise has zero loss; the printed target is its negative."""
    data = normal(8, 2)
    perfect = lambda x, t, y: (data - x) / (1 - t[:, None])  # noqa: E731
    right = losses.flow_matching(jax.random.key(1), perfect, paths.Linear(), data, jnp.zeros(8, jnp.int32))
    wrong = losses.flow_matching(
        jax.random.key(1), lambda x, t, y: -perfect(x, t, y), paths.Linear(), data, jnp.zeros(8, jnp.int32)
    )
    assert_close(right, jnp.zeros(8), 1e-6)
    assert jnp.all(wrong > 0.1)


def test_the_draws_of_an_example_do_not_depend_on_the_batch():
    data = normal(8, 2)
    still = lambda x, t, y: jnp.zeros_like(x)  # noqa: E731
    y = jnp.zeros(8, jnp.int32)
    batch = losses.flow_matching(jax.random.key(1), still, paths.Linear(), data, y)
    keys = per_example.keys(jax.random.key(1), 8)
    part = losses.flow_matching(keys[5:], still, paths.Linear(), data[5:], y[5:])
    assert_close(batch[5:], part, 0)


@pytest.mark.requirement("R9")
@pytest.mark.parametrize("kind", ["velocity", "score"])
def test_marginal_and_conditional_loss_differ_by_a_constant(kind, float64):
    """L_FM = L_CFM + const with equal gradients; expectations over data and noise by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    means, deviations, parts = jnp.array([-1.0, 0.7]), jnp.array([0.8, 0.6]), jnp.array([0.4, 0.6])
    mixture = mixtures.Mixture(parts, means[:, None], (deviations**2)[:, None, None])
    grid = means[:, None] + deviations[:, None] * jnp.asarray(nodes)[None]
    data, noise = (g.ravel()[:, None] for g in jnp.meshgrid(grid.ravel(), jnp.asarray(nodes), indexing="ij"))
    of_data = (parts[:, None] * jnp.asarray(weights / weights.sum())[None]).ravel()
    mass = jnp.outer(of_data, jnp.asarray(weights / weights.sum())).ravel()
    conditional = {
        "velocity": lambda path, t: paths.conditional_velocity(path, data, noise, t),
        "score": lambda path, t: paths.conditional_score(path, noise, t),
    }[kind]
    marginal = {"velocity": mixtures.velocity, "score": mixtures.score}[kind]

    def losses_of(path, theta, t):
        t = jnp.full(len(data), t)
        x = paths.interpolate(path, data, noise, t)
        model = theta[0] * x + theta[1] * jnp.tanh(x) + theta[2]
        targets = marginal(mixture, path, x, t), conditional(path, t)
        return jnp.stack([jnp.sum(mass * jnp.sum((model - target) ** 2, axis=1)) for target in targets])

    thetas = jnp.array([[0.0, 0.0, 0.0], [1.0, -2.0, 0.5], [-0.3, 1.0, -1.0]])

    def values_and_slopes(path):
        at = lambda theta: losses_of(path, theta, path.t[0])  # noqa: E731
        return jax.lax.map(lambda theta: (at(theta), jax.jacobian(at)(theta)), thetas)

    for t in (0.1, 0.5, 0.7):
        values, slopes = on_all_paths(values_and_slopes, jnp.array([t]))
        constant = np.asarray(values[..., 1] - values[..., 0])  # (paths, thetas)
        assert constant.min() > 1e-4  # the losses differ
        assert_close(constant, np.repeat(constant[:, :1], 3, axis=1), 1e-7)
        assert_close(slopes[..., 0, :], slopes[..., 1, :], 1e-7)


def models(path):
    """Velocity, score, noise, data and v of data N(y, 1 / 2), as networks (x, t, y)."""

    def quantities(x, t, y):
        alpha, beta, d_alpha, d_beta = (c[:, None] for c in paths.coefficients(path, t))
        mean = y[:, None].astype(x.dtype)
        r = (x - alpha * mean) / (alpha**2 / 2 + beta**2)
        data, noise = mean + alpha / 2 * r, beta * r
        return {
            "velocity": d_alpha * data + d_beta * noise,
            "score": -r,
            "noise": noise,
            "data": data,
            "v": alpha * noise - beta * data,
        }

    return {kind: lambda x, t, y, kind=kind: quantities(x, t, y)[kind] for kind in KINDS}


KINDS = ["velocity", "score", "noise", "data", "v"]


@pytest.mark.requirement("R11", "R46")
def test_every_parametrisation_has_the_same_loss_but_for_its_weight(float64):
    """Sample by sample, with the same t and noise; the loss of the score already contains beta^2."""
    data, y = normal(256, 2), jnp.asarray(np.arange(256) % 3)

    def values(path):
        found = {}
        for kind, model in models(path).items():

            def disturbed(x, t, y, model=model, kind=kind):
                gain = predictions.gain(path, t, source="velocity", target=kind)
                return model(x, t, y) + 0.3 * gain[:, None] * jnp.tanh(x)

            options = {
                "prediction": kind,
                "time_distribution": times.distribution(lambda u: path.t),
                "weight": losses.velocity_weight(path, kind),
            }
            found[kind] = losses.flow_matching(jax.random.key(1), disturbed, path, data, y, **options)
        return found

    found = on_all_paths(values, linspace(0.01, 0.99, 256))
    assert_close(found, dict.fromkeys(KINDS, found["velocity"]), 1e-8)


def test_the_weight_of_the_velocity_is_the_squared_gain_up_to_its_limit():
    """(b / beta)^2 for the noise and so on; at the ends finite or infinite, never nan."""

    def weights_and_factors(path, t):
        b, alpha, beta = predictions.score_weight(path, t), path.alpha(t), path.beta(t)
        factors = {
            "velocity": jnp.ones(4),
            "noise": b / beta,
            "score": b / beta,
            "data": b * alpha / beta**2,
            "v": b * alpha / beta / (alpha**2 + beta**2),
        }
        weights = {kind: losses.velocity_weight(path, kind)(t) for kind in KINDS}
        limited = {kind: losses.velocity_weight(path, kind, limit=2.0)(t) for kind in KINDS}
        return weights, limited, factors

    inner = lambda tree: {kind: value[1:3] for kind, value in tree.items()}  # noqa: E731
    found = by_path(weights_and_factors, jnp.array([0.0, 0.3, 0.8, 1.0]))
    for name, (weights, limited, factors) in jax.tree.map(np.asarray, found).items():
        assert not np.isnan(list(weights.values())).any(), name
        squares = jax.tree.map(np.square, factors)
        assert_close({name: inner(weights)}, {name: inner(squares)}, 1e-4)
        assert_close({name: limited}, {name: jax.tree.map(lambda w: np.minimum(w, 2), weights)}, 0)


def test_a_limit_must_be_positive():
    with pytest.raises(ValueError, match="limit = 0"):
        losses.velocity_weight(paths.Linear(), "data", limit=0.0)
    with pytest.raises(ValueError, match="gamma = 0"):
        losses.minimum_snr_weight(paths.Linear(), "data", gamma=0.0)
    with pytest.raises(ValueError, match="bias = nan"):
        losses.sigmoid_weight(paths.Linear(), "data", bias=float("nan"))


def test_weights_by_the_signal_to_noise_ratio_are_their_formulas(float64):
    """In lambda = log SNR, for each prediction: v on a path with alpha^2 + beta^2 = 1, velocity on lines.

    At both ends they are finite; those of the noise are 1 where there is noise alone.
    """
    instants, gamma, bias = np.concatenate([[0], np.linspace(0.02, 0.98, 25), [1]]), 5.0, -1.0

    def weights(path, t):
        minimum = {kind: losses.minimum_snr_weight(path, kind, gamma)(t) for kind in KINDS}
        smooth = {kind: losses.sigmoid_weight(path, kind, bias)(t) for kind in KINDS}
        return {"snr": (path.alpha(t) / path.beta(t)) ** 2, "weights": [minimum, smooth]}

    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    compiled = by_path_compiled(weights, jax.device_put(instants))
    for name, found in jax.tree.map(np.asarray, compiled).items():
        assert np.isfinite(jax.tree.leaves(found["weights"])).all(), name
        s, snr = instants[1:-1], found["snr"][1:-1]
        log_snr, by_noise = np.log(snr), np.minimum(1, gamma / snr)
        minimum = {"data": np.minimum(snr, gamma), "noise": by_noise, "score": by_noise}
        smooth = {"data": np.exp(bias) * sigmoid(log_snr - bias), "noise": sigmoid(bias - log_snr)}
        smooth["score"] = smooth["noise"]
        if name == "linear":
            minimum["velocity"] = np.minimum(s**2, gamma * (1 - s) ** 2)
            smooth["velocity"] = 1 / (s**-2 + np.exp(-bias) * (1 - s) ** -2)
            assert_close(
                [weight["noise"][[0, -1]] for weight in found["weights"]], [np.array([1.0, 0])] * 2, 0
            )
        elif name in ("cosine", "variance_preserving"):
            minimum["v"] = np.minimum(snr, gamma) / (snr + 1)
            smooth["v"] = sigmoid(bias - log_snr) * sigmoid(log_snr)
        for weight, expected in zip(found["weights"], (minimum, smooth), strict=True):
            assert_close({kind: weight[kind][1:-1] for kind in expected}, expected, 1e-9)


@pytest.mark.requirement("R46")
def test_the_loss_of_the_score_is_finite_where_the_score_is_not():
    """At t = 1 the score of a point is infinite; the weight beta^2 cancels it."""
    data = jnp.ones((4, 2))
    at_end = times.distribution(lambda u: jnp.ones_like(u))
    still = lambda x, t, y: jnp.zeros_like(x)  # noqa: E731
    values = losses.flow_matching(
        jax.random.key(0), still, paths.Linear(), data, None, prediction="score", time_distribution=at_end
    )
    assert jnp.all(jnp.isfinite(values))
    assert jnp.all(values > 0)


@pytest.mark.requirement("R46", "R37")
@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_splits_where_the_condition_is_dropped(kind, float64):
    """L_CFG = (1 - eta) L_guided + eta L_unguided: each example is one or the other, at that rate."""
    path, eta, key = paths.Linear(), 0.3, jax.random.key(1)
    data, y = normal(4096, 2), jnp.asarray(np.arange(4096) % 3)
    loss = partial(
        losses.flow_matching, prediction=kind, time_distribution=times.distribution(lambda u: 0.01 + 0.98 * u)
    )

    @jax.jit
    def values():
        seen = []

        def model(x, t, y):
            seen.append(y)
            return 1.3 * models(path)[kind](x, t, y)

        dropped = losses.classifier_free(loss, jnp.array(NULL), eta)(key, model, path, data, y)
        keys = jax.vmap(jax.random.split)(per_example.keys(key, 4096))[:, 1]
        alone = [loss(keys, model, path, data, label) for label in (y, jnp.full_like(y, NULL))]
        return dropped, alone, seen[0] == NULL

    dropped, (guided, unguided), null = jax.tree.map(np.asarray, values())
    assert_close(dropped, np.where(null, unguided, guided), 1e-12)
    assert_expected(null, eta, 6)


@pytest.mark.requirement("R38")
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_dropping_nothing_and_dropping_everything(rate):
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
    data = normal(8, 2, 3)
    keys = per_example.keys(jax.random.key(1), 8)
    still = lambda x, t, y: jnp.zeros_like(x)  # noqa: E731
    values = losses.flow_matching(keys, still, paths.Linear(), data, None)
    noise = per_example.normal(jax.vmap(jax.random.split)(keys)[:, 1], (2, 3))
    assert_close(values, jnp.sum((data - noise) ** 2, axis=(1, 2)), 1e-6)


@pytest.mark.requirement("R14")
def test_the_exact_bridge_minimises_the_loss_between_two_data_sets(float64):
    """The mean gradient of its loss is zero within its standard error."""
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

    assert_expected(jax.jit(jax.jacfwd(loss))(jnp.zeros(2)), np.zeros(2), 6)


@pytest.mark.parametrize("law", ["uniform", "mode"])
def test_weighted_and_stratified_times_leave_the_mean_as_it_is(law, float64):
    """For a function of t with a known integral; stratification reduces the variance."""
    n, repeats = 64, 400
    make = {
        "uniform": times.uniform_distribution,
        "mode": partial(times.mode_distribution, 1.29, unbiased=True),
    }[law]

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
def test_a_bridge_has_no_score_to_match(kind):
    still = lambda x, t, y: jnp.zeros_like(x)  # noqa: E731
    with pytest.raises(TypeError, match="Gaussian"):
        losses.flow_matching(
            jax.random.key(0), still, paths.Straight(), jnp.ones((4, 2)), None, prediction=kind
        )


@pytest.mark.parametrize("wrong", [lambda x: x[:, 0], lambda x: jnp.sum(x)], ids=["(b,)", "scalar"])
def test_a_field_of_another_shape_is_rejected(wrong):
    """(b,) would broadcast with (b, 1) to (b, b), comparing each example with all targets."""
    with pytest.raises(ValueError, match=r"the field returned shape \(4?,?\) for x of shape \(4, 1\)"):
        losses.flow_matching(
            jax.random.key(0), lambda x, t, y: wrong(x), paths.Linear(), jnp.ones((4, 1)), None
        )


def test_shapes_that_would_broadcast_are_rejected():
    """Also without checked annotations, as for users."""
    still, data = (lambda x, t, y: jnp.zeros_like(x)), jnp.ones((4, 1))
    flow_matching = inspect.unwrap(losses.flow_matching)
    loss = partial(flow_matching, jax.random.key(0), still, paths.Linear(), data, None)
    with pytest.raises(ValueError, match=r"noise of shape \(1, 1\) for data of shape \(4, 1\)"):
        loss(noise=jnp.ones((1, 1)))
    with pytest.raises(ValueError, match="prediction = 'speed': must be one of velocity, score"):
        loss(prediction="speed")
    with pytest.raises(ValueError, match="broadcast"):
        loss(weight=lambda t: t[:, None])
    assert_close(loss(weight=lambda t: jnp.array(2.0)), 2 * loss(), 1e-6)


def test_the_rate_is_an_axis_of_a_sweep():
    """A traced rate drops what the loop drops, by one key or by one per example."""
    y, data, rates = jnp.arange(64) % 3, jnp.ones((64, 1)), [0.0, 0.5, 1]
    keys = per_example.keys(jax.random.key(0), 64)
    toward = lambda x, t, y: y[:, None].astype(x.dtype) - x  # noqa: E731

    def loss(rate, key=keys):
        dropping = losses.classifier_free(losses.flow_matching, jnp.array(NULL), rate)
        return dropping(key, toward, paths.Linear(), data, y)

    swept = jax.jit(jax.vmap(loss))(jnp.array(rates))
    assert_close(swept, jax.jit(lambda: jnp.stack([loss(rate) for rate in rates]))(), 1e-5)
    assert_close(loss(0.5, jax.random.key(0)), loss(0.5), 0)


@pytest.mark.parametrize("prediction", ["velocity", "score"])
def test_an_auxiliary_prediction_is_matched_at_the_same_points_by_the_same_call(prediction):
    """The sum of two losses by the same key, dropped conditions included, where the field is called once."""
    final, auxiliary = (lambda x, t, y, k=k: k * x + y[:, None] * t[:, None] for k in (0.5, -2.0))
    calls = []

    def both(x, t, y):
        calls.append(y)
        return auxiliary(x, t, y), final(x, t, y)

    def loss(field, **options):
        matching = partial(losses.flow_matching, prediction=prediction, **options)
        dropping = losses.classifier_free(matching, jnp.array(9.0), 0.5)
        return dropping(jax.random.key(1), field, paths.Linear(), jnp.ones((8, 2)), jnp.zeros(8))

    assert_close(loss(both, auxiliary_weight=0.3), loss(final) + 0.3 * loss(auxiliary), 1e-4)
    assert len(calls) == 1
    assert_close(loss(both, auxiliary_weight=0), loss(final), 0)
    with pytest.raises(ValueError, match=r"auxiliary_weight = -1.0: must be non-negative"):
        loss(both, auxiliary_weight=-1.0)


@pytest.mark.parametrize("k", [0, 1, 7])
def test_the_edge_weight_of_a_wave_is_that_of_its_frequency(k, float64):
    """Cosines without a slope at the ends are the eigenvectors of the sum over neighbours."""
    n = 8
    wave = jnp.cos(jnp.pi * k * jnp.linspace(0.5 / n, 1 - 0.5 / n, n))
    of_frequency = 4 * jnp.sin(jnp.pi * k / (2 * n)) ** 2
    error = jnp.stack([wave[:, None, None] * jnp.ones((n, 5, 2)), jnp.ones((n, 5, 2))])
    still, moving = losses.square_norm(error), losses.square_norm(error, jnp.array(0.7))
    assert_close(still, jnp.sum(error**2, axis=(1, 2, 3)), 1e-12)
    assert_close(moving, still * jnp.array([1 + 0.7 * of_frequency, 1.0]), 1e-12)
    assert_close(losses.square_norm(jnp.moveaxis(error, 1, 2), 0.7), moving, 1e-12)
    with pytest.raises(ValueError, match=r"edge_weight = -1.0: must be non-negative"):
        losses.square_norm(error, -1.0)


@pytest.mark.parametrize("edge_weight", [0.0, 5.0])
def test_the_exact_field_minimises_the_loss_with_any_edge_weight(edge_weight, float64):
    """Of Gaussian pixels; points in equal number at +-sqrt(d) along d axes have their second moments."""
    root = jnp.array([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [-0.3, 0.4, 0.2]])
    axes = jnp.sqrt(6.0) * jnp.concatenate([jnp.eye(6), -jnp.eye(6)])
    data, noise = (axes[:, :3] @ root.T)[..., None], axes[:, 3:, None]
    t, path, covariance = 0.6, paths.Linear(), root @ root.T
    exact = (t * covariance - (1 - t) * jnp.eye(3)) @ jnp.linalg.inv(
        t**2 * covariance + (1 - t) ** 2 * jnp.eye(3)
    )

    def loss(matrix):
        linear = lambda x, t, y: jnp.einsum("ij,bjc->bic", matrix, x, precision="highest")  # noqa: E731
        options = {"noise": noise, "time_distribution": times.distribution(lambda u: jnp.full_like(u, t))}
        options |= {"edge_weight": edge_weight}
        return losses.flow_matching(jax.random.key(0), linear, path, data, None, **options).mean()

    assert_close(jax.grad(loss)(exact), jnp.zeros((3, 3)), 1e-12)
    away = jnp.array([[0.1, 0.0, 0.0], [0.0, -0.2, 0.1], [0.0, 0.0, 0.1]])
    assert loss(exact + away) > loss(exact) + 0.01
