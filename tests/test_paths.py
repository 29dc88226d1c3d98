import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PATHS, assert_close, assert_pairs, by_path_compiled, linspace, normal

from jaxflow import paths


@pytest.mark.requirement("R1", "R2")
def test_runs_from_noise_to_data(float64):
    t = linspace(0.0, 1.0, 101)
    found = by_path_compiled(lambda path, t: (path.alpha(t), path.beta(t)), t)
    for name, (alpha, beta) in jax.tree.map(np.asarray, found).items():
        # The variance-preserving path retains exp(-(0.1 + 20) / 4) = 0.0066 of the data.
        start = {"variance_preserving": np.exp(-20.1 / 4), "ddpm": alpha[0]}.get(name, 0.0)
        assert start < 0.01, name
        assert_close((alpha[0], alpha[-1]), (np.float64(start), np.float64(1)), 1e-12)
        assert_close((beta[0], beta[-1]), (np.sqrt(1 - start**2), np.float64(0)), 1e-12)
        assert np.all(np.diff(alpha) > 0), name
        assert np.all(np.diff(beta) < 0), name


def slopes(t):
    """(alpha', beta') of each path by hand, in NumPy."""
    s = 1 - t
    rate = (s * 19.9 + 0.1) / 2
    preserving = np.exp(-(9.95 * s**2 + 0.1 * s) / 2)
    kept = np.sqrt(np.cumprod(1 - np.asarray(PATHS["ddpm"].betas, float)))
    place = np.floor(s * 1000 - 1e-6).astype(int)
    level = 1000 * (kept[place - 1] - kept[place])  # linear between levels
    table = kept[place - 1] - (s * 1000 - place) * level / 1000
    return {
        "linear": (np.ones_like(t), -np.ones_like(t)),
        "cosine": (np.pi / 2 * np.cos(np.pi / 2 * t), -np.pi / 2 * np.sin(np.pi / 2 * t)),
        "square_root": (np.ones_like(t), -0.5 / np.sqrt(1 - t)),
        "variance_preserving": (preserving * rate, -(preserving**2) * rate / np.sqrt(1 - preserving**2)),
        "ddpm": (level, -table * level / np.sqrt(1 - table**2)),
        "functions": (2 * t, -2 * t),
    }


@pytest.mark.requirement("R2")
def test_derivatives_are_the_closed_forms(float64):
    t = np.linspace(0.0105, 0.9905, 99)  # between the levels of the table, where it has slopes
    found = by_path_compiled(lambda path, t: paths.coefficients(path, t), jnp.asarray(t))
    assert_close({name: (c.d_alpha, c.d_beta) for name, c in found.items()}, slopes(t), 1e-11)


@pytest.mark.parametrize("event", [(), (3,), (4, 4, 1), (2, 4, 4, 1)])
@pytest.mark.requirement("R3")
def test_any_event_shape(event):
    data, noise, t = normal(5, *event), normal(5, *event, seed=1), linspace(0.1, 0.9, 5)
    batch = by_path_compiled(paths.interpolate, data, noise, t)
    for name, x in batch.items():
        assert x.shape == (5, *event), name
    alone = by_path_compiled(paths.interpolate, data[2:3], noise[2:3], t[2:3])
    assert_close({name: x[2:3] for name, x in batch.items()}, alone, 0)


@pytest.mark.requirement("R4")
def test_velocity_is_the_derivative_of_the_interpolation(float64):
    def both(path, data, noise, t):
        along = lambda t: paths.interpolate(path, data, noise, t)  # noqa: E731
        _, derivative = jax.jvp(along, (t,), (jnp.ones_like(t),))
        return paths.conditional_velocity(path, data, noise, t), derivative

    assert_pairs(by_path_compiled(both, normal(5, 3), normal(5, 3, seed=1), linspace(0.1, 0.9, 5)), 1e-12)


@pytest.mark.requirement("R44")
def test_algorithm_5_prints_data_and_noise_exchanged():
    data, noise, t = jnp.array([[3.0]]), jnp.array([[1.0]]), jnp.array([0.3])
    velocity = paths.conditional_velocity(paths.Linear(), data, noise, t)
    printed = noise - data  # alpha' noise + beta' data
    assert_close(velocity, data - noise, 1e-6)
    assert_close(velocity, -printed, 1e-6)


@pytest.mark.requirement("R5")
def test_score_is_the_gradient_of_the_density(float64):
    def both(path, data, noise, t):
        def log_density(x):
            residual = (x - path.alpha(t)[:, None] * data) / path.beta(t)[:, None]
            return jnp.sum(-(residual**2) / 2)

        gradient = jax.grad(log_density)(paths.interpolate(path, data, noise, t))
        return paths.conditional_score(path, noise, t), gradient

    assert_pairs(by_path_compiled(both, normal(5, 3), normal(5, 3, seed=1), linspace(0.1, 0.9, 5)), 1e-11)


@pytest.mark.requirement("R50")
def test_numbers_of_a_path_are_swept_by_vmap():
    t = jnp.array([0.5])
    rates = jnp.array([5.0, 20.0])
    swept = jax.vmap(lambda rate: paths.VariancePreserving(0.1, rate).alpha(t))(rates)
    loop = jnp.stack([paths.VariancePreserving(0.1, rate).alpha(t) for rate in rates])
    assert_close(swept, loop, 1e-6)


@pytest.mark.requirement("R2")
def test_ddpm_levels_are_the_products_of_the_table(float64):
    betas = jnp.array([1e-4, 0.3, 0.5, 0.999])
    path, kept = paths.DDPM(betas), jnp.cumprod(1 - betas)
    t = 1 - jnp.arange(5.0) / 4
    assert_close(path.alpha(t) ** 2, jnp.concatenate([jnp.ones(1), kept]), 1e-12)
    assert_close(path.alpha(t) ** 2 + path.beta(t) ** 2, jnp.ones(5), 1e-12)


@pytest.mark.requirement("R2")
@pytest.mark.parametrize("precise", [True, False])
def test_a_table_that_ends_in_noise_alone(precise):
    """Zero terminal SNR: finite everywhere; between the last levels alpha is linear, in closed form."""
    with jax.enable_x64(precise):
        path = paths.DDPM(jnp.array([0.01, 0.19, 0.5, 1.0]))
        t = jnp.array([0.0, 0.05, 0.125, 0.2, 0.25])
        last = jnp.sqrt(jnp.array(0.99 * 0.81 * 0.5))
        c = paths.coefficients(path, t)
        alpha, bound = 4 * t * last, 1e-12 if precise else 1e-6
        assert_close(c.alpha, alpha, bound)
        assert_close(c.beta, jnp.sqrt(1 - alpha**2), bound)
        assert_close(c.d_alpha[:-1], jnp.full(4, 4 * last), bound)
        assert_close(c.d_beta[:-1], (-4 * last * alpha / jnp.sqrt(1 - alpha**2))[:-1], 10 * bound)
        assert c.alpha[0] == 0
        assert c.beta[0] == 1


@pytest.mark.requirement("R2")
def test_a_fine_table_is_the_continuous_path(float64):
    """With the rates of the continuous process at 4,000 levels, within the error of a midpoint sum."""
    n = 4000
    s = (jnp.arange(float(n)) + 0.5) / n
    table = paths.DDPM((0.1 + s * 19.9) / n)
    t = jnp.linspace(0.0, 1.0, 41)
    assert_close(table.alpha(t), paths.VariancePreserving().alpha(t), 2e-3)


@pytest.mark.parametrize(
    ("alpha", "beta", "says"),
    [
        (lambda t: 1 - t, lambda t: t, r"alpha\(0\) = 1"),
        (lambda t: t, lambda t: 1 + t, r"beta\(1\) = 2"),
    ],
)
def test_functions_with_wrong_ends_are_rejected(alpha, beta, says):
    with pytest.raises(ValueError, match=says):
        paths.from_functions(alpha, beta)


@pytest.mark.requirement("R14")
@pytest.mark.parametrize("event", [(), (3,), (2, 4, 4, 1)])
def test_a_general_map_includes_the_gaussian_paths(event, float64):
    path = paths.Cosine()
    general = paths.from_map(lambda noise, data, t: path.alpha(t) * data + path.beta(t) * noise)
    data, noise, t = normal(5, *event), normal(5, *event, seed=1), linspace(0.0, 1.0, 5)
    for function in (paths.interpolate, paths.conditional_velocity):
        assert_close(function(general, data, noise, t), function(path, data, noise, t), 1e-12)


@pytest.mark.requirement("R14")
def test_velocity_of_a_curved_map_is_its_derivative(float64):
    """For a rotation along the way, in closed form."""

    def psi(noise, data, t):
        angle = jnp.pi / 2 * t * (1 - t)
        turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
        return turn @ ((1 - t) * noise + t * data)

    noise, data, t = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]]), jnp.array([0.5])
    velocity = paths.conditional_velocity(paths.from_map(psi), data, noise, t)
    angle = jnp.pi / 8  # at t = 1/2, where its derivative is zero
    turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    assert_close(velocity[0], turn @ (data - noise)[0], 1e-12)


@pytest.mark.requirement("R14")
def test_bridges_are_straight_and_have_no_score():
    data, noise, t = jnp.array([[4.0]]), jnp.array([[2.0]]), jnp.array([0.25])
    assert_close(paths.interpolate(paths.Straight(), data, noise, t), jnp.array([[2.5]]), 1e-6)
    assert_close(paths.conditional_velocity(paths.Straight(), data, noise, t), jnp.array([[2.0]]), 1e-6)
    with pytest.raises(TypeError, match="Gaussian"):
        paths.conditional_score(paths.Straight(), noise, t)
    with pytest.raises(TypeError, match="Gaussian"):
        paths.coefficients(paths.Straight(), t)


def test_time_of_a_mixing_ratio(float64):
    t = jnp.array([0.0, 1e-3, 0.3, 0.9, 0.999, 1.0])

    def find(path, t):
        alpha, beta = path.alpha(t), path.beta(t)
        found = paths.time_of(path, 3 * alpha, 3 * beta)
        return (found[1:], path.alpha(found)), (t[1:], alpha)

    assert_pairs(by_path_compiled(find, t), 1e-12)


@pytest.mark.parametrize("t", [0.25, 0, jnp.array(0.25)])
@pytest.mark.parametrize("general", [False, True])
def test_a_single_time_serves_the_whole_batch(t, general):
    path = paths.Straight() if general else paths.Cosine()
    data, noise = normal(4, 3), normal(4, 3, seed=1)
    each = jnp.full(4, t, jnp.float32)
    for function in (paths.interpolate, paths.conditional_velocity):
        assert_close(function(path, data, noise, t), function(path, data, noise, each), 0)
    if not general:
        score = paths.conditional_score
        assert_close(score(path, noise, t), score(path, noise, each), 0)
