import chex
import jax
import jax.numpy as jnp
import pytest
from conftest import PATHS, assert_close

from jaxflow import paths


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.requirement("R1", "R2")
def test_runs_from_noise_to_data(name, float64):
    path, ends = PATHS[name], jnp.array([0.0, 1.0])
    # The variance-preserving path stops at exp(-(0.1 + 20) / 4) = 0.0066 of the data.
    starts = {"variance_preserving": jnp.exp(jnp.array(-20.1 / 4)), "ddpm": PATHS["ddpm"].alpha(ends)[0]}
    start = starts.get(name, jnp.array(0.0))
    assert start < 0.01
    assert_close(path.alpha(ends), jnp.array([start, 1.0]), 1e-12)
    assert_close(path.beta(ends), jnp.array([jnp.sqrt(1 - start**2), 0.0]), 1e-12)
    t = jnp.linspace(0.0, 1.0, 101)
    assert jnp.all(jnp.diff(path.alpha(t)) > 0)
    assert jnp.all(jnp.diff(path.beta(t)) < 0)


def slopes(name, t):
    """(alpha', beta') by hand."""
    s, alpha = 1 - t, PATHS[name].alpha(t)
    rate = (s * 19.9 + 0.1) / 2
    kept = jnp.sqrt(jnp.cumprod(1 - PATHS["ddpm"].betas.astype(t.dtype)))
    place = jnp.floor(s * 1000 - 1e-6).astype(int)
    level = 1000 * (kept[place - 1] - kept[place])  # linear between levels
    return {
        "linear": (jnp.ones_like(t), -jnp.ones_like(t)),
        "cosine": (jnp.pi / 2 * jnp.cos(jnp.pi / 2 * t), -jnp.pi / 2 * jnp.sin(jnp.pi / 2 * t)),
        "square_root": (jnp.ones_like(t), -0.5 / jnp.sqrt(1 - t)),
        "variance_preserving": (alpha * rate, -(alpha**2) * rate / jnp.sqrt(1 - alpha**2)),
        "ddpm": (level, -alpha * level / jnp.sqrt(1 - alpha**2)),
        "functions": (2 * t, -2 * t),
    }[name]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.requirement("R2")
def test_derivatives_are_the_closed_forms(name, float64):
    t = jnp.linspace(0.0105, 0.9905, 99)  # inside the levels of the table, where it has slopes
    c = paths.coefficients(PATHS[name], t)
    assert_close((c.d_alpha, c.d_beta), slopes(name, t), 1e-11)


@pytest.mark.parametrize("event", [(), (3,), (4, 4, 1), (2, 4, 4, 1)])
@pytest.mark.requirement("R3")
def test_any_event_shape(path, event):
    data, noise = jax.random.normal(jax.random.key(0), (2, 5, *event))
    t = jnp.linspace(0.1, 0.9, 5)
    x = paths.interpolate(path, data, noise, t)
    chex.assert_shape(x, (5, *event))
    alone = paths.interpolate(path, data[2:3], noise[2:3], t[2:3])
    assert_close(x[2:3], alone, 0)


@pytest.mark.requirement("R4")
def test_velocity_is_the_derivative_of_the_interpolation(path, float64):
    data, noise = jax.random.normal(jax.random.key(0), (2, 5, 3))
    t = jnp.linspace(0.1, 0.9, 5)
    _, derivative = jax.jvp(lambda t: paths.interpolate(path, data, noise, t), (t,), (jnp.ones(5),))
    assert_close(paths.conditional_velocity(path, data, noise, t), derivative, 1e-12)


@pytest.mark.requirement("R44")
def test_algorithm_5_prints_data_and_noise_exchanged():
    data, noise, t = jnp.array([[3.0]]), jnp.array([[1.0]]), jnp.array([0.3])
    velocity = paths.conditional_velocity(paths.Linear(), data, noise, t)
    printed = noise - data  # alpha' noise + beta' data
    assert_close(velocity, data - noise, 1e-6)
    assert_close(velocity, -printed, 1e-6)


@pytest.mark.requirement("R5")
def test_score_is_the_gradient_of_the_density(path, float64):
    data, noise = jax.random.normal(jax.random.key(0), (2, 5, 3))
    t = jnp.linspace(0.1, 0.9, 5)

    def log_density(x):
        residual = (x - path.alpha(t)[:, None] * data) / path.beta(t)[:, None]
        return jnp.sum(-(residual**2) / 2)

    expected = jax.grad(log_density)(paths.interpolate(path, data, noise, t))
    assert_close(paths.conditional_score(path, noise, t), expected, 1e-11)


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
    """Zero terminal SNR: finite everywhere, and between its last levels alpha is linear, in closed form."""
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
    """Rates of the continuous process at 4,000 levels: its alpha within the error of a midpoint sum."""
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
def test_functions_that_run_elsewhere_are_refused(alpha, beta, says):
    with pytest.raises(ValueError, match=says):
        paths.from_functions(alpha, beta)


@pytest.mark.requirement("R14")
@pytest.mark.parametrize("event", [(), (3,), (2, 4, 4, 1)])
def test_a_general_map_includes_the_gaussian_paths(event, float64):
    path = paths.Cosine()
    general = paths.from_map(lambda noise, data, t: path.alpha(t) * data + path.beta(t) * noise)
    data, noise = jax.random.normal(jax.random.key(0), (2, 5, *event))
    t = jnp.linspace(0.0, 1.0, 5)
    for function in (paths.interpolate, paths.conditional_velocity):
        assert_close(function(general, data, noise, t), function(path, data, noise, t), 1e-12)


@pytest.mark.requirement("R14")
def test_velocity_of_a_curved_map_is_its_derivative(float64):
    """A turn by a quarter on the way, in closed form."""

    def psi(noise, data, t):
        angle = jnp.pi / 2 * t * (1 - t)
        turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
        return turn @ ((1 - t) * noise + t * data)

    noise, data, t = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]]), jnp.array([0.5])
    velocity = paths.conditional_velocity(paths.from_map(psi), data, noise, t)
    angle = jnp.pi / 8  # at t = 1/2, where its slope is zero
    turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    assert_close(velocity[0], turn @ (data - noise)[0], 1e-12)


@pytest.mark.requirement("R14")
def test_bridges_run_straight_and_have_no_score():
    data, noise, t = jnp.array([[4.0]]), jnp.array([[2.0]]), jnp.array([0.25])
    assert_close(paths.interpolate(paths.Straight(), data, noise, t), jnp.array([[2.5]]), 1e-6)
    assert_close(paths.conditional_velocity(paths.Straight(), data, noise, t), jnp.array([[2.0]]), 1e-6)
    with pytest.raises(TypeError, match="Gaussian"):
        paths.conditional_score(paths.Straight(), noise, t)
    with pytest.raises(TypeError, match="Gaussian"):
        paths.coefficients(paths.Straight(), t)


def test_time_of_a_mixing_ratio(path, float64):
    t = jnp.array([0.0, 1e-3, 0.3, 0.9, 0.999, 1.0])
    alpha, beta = path.alpha(t), path.beta(t)
    found = paths.time_of(path, 3 * alpha, 3 * beta)
    assert_close(found[1:], t[1:], 1e-12)
    assert_close(path.alpha(found), alpha, 1e-12)


@pytest.mark.parametrize("t", [0.25, 0, jnp.array(0.25)])
@pytest.mark.parametrize("general", [False, True])
def test_one_time_for_all(t, general):
    path = paths.Straight() if general else paths.Cosine()
    data, noise = jax.random.normal(jax.random.key(0), (2, 4, 3))
    each = jnp.full(4, t, jnp.float32)
    for function in (paths.interpolate, paths.conditional_velocity):
        assert_close(function(path, data, noise, t), function(path, data, noise, each), 0)
    if not general:
        score = paths.conditional_score
        assert_close(score(path, noise, t), score(path, noise, each), 0)
