"""Paths, conversions, changes of path and the loss against flow_matching and diffusers."""

import jax
import jax.numpy as jnp
import pytest
from conftest import Lazy, assert_close

from jaxflow import fields, losses, paths, predictions
from reference import exact
from reference.exact import in_torch, points, to_jax, to_torch

torch, diffusers = Lazy("torch"), Lazy("diffusers")
peers, theirs = Lazy("flow_matching.path"), Lazy("flow_matching.path.scheduler")

SAME = {  # ours, and that of flow_matching, which has the same direction of time
    "linear": (paths.Linear(), lambda: theirs.CondOTScheduler()),
    "cosine": (paths.Cosine(), lambda: theirs.CosineScheduler()),
    "variance_preserving": (paths.VariancePreserving(0.2, 15.0), lambda: theirs.VPScheduler(0.2, 15.0)),
    "polynomial": (
        paths.from_functions(lambda t: t**3, lambda t: 1 - t**3),
        lambda: theirs.PolynomialConvexScheduler(3),
    ),
    "linear_vp": (
        paths.from_functions(lambda t: t, lambda t: jnp.sqrt(1 - t**2)),
        lambda: theirs.LinearVPScheduler(),
    ),
}
TIMES = jnp.array([0.03, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 0.98])
BETAS = jnp.linspace(1e-4, 0.02, 1000)


@pytest.fixture(params=SAME.values(), ids=SAME.keys())
def pair(request):
    ours, peer = request.param
    return ours, peer()


def test_a_path_has_their_points_velocities_and_times(pair):
    ours, peer = pair
    noise, data, t = points(), points(seed=1), TIMES.astype(float)
    sample = peers.AffineProbPath(peer).sample(to_torch(noise), to_torch(data), to_torch(t))
    assert_close(paths.interpolate(ours, data, noise, t), to_jax(sample.x_t), 1e-12)
    assert_close(paths.conditional_velocity(ours, data, noise, t), to_jax(sample.dx_t), 1e-12)
    ratio = to_torch(ours.alpha(t) / ours.beta(t))
    assert_close(paths.time_of(ours, ours.alpha(t), ours.beta(t)), to_jax(peer.snr_inverse(ratio)), 1e-12)


def test_conversions_are_theirs(pair):
    """They call noise epsilon and data target, and have neither score nor v."""
    ours, peer = pair
    x, value, t = points(), points(seed=1), TIMES.astype(float)
    names = {"velocity": "velocity", "noise": "epsilon", "data": "target"}
    for source, its in names.items():
        for target, their in names.items():
            if source == target:
                continue
            convert = getattr(peers.AffineProbPath(peer), f"{its}_to_{their}")
            expected = convert(to_torch(value), to_torch(x), to_torch(t)[:, None])
            got = predictions.convert(ours, x, t, value, source=source, target=target)
            assert_close(got, to_jax(expected), 1e-11)


@pytest.mark.parametrize("trained", ["linear", "variance_preserving"])
def test_a_change_of_path_is_their_transformed_model(pair, trained):
    sampled, new = pair
    path, old = SAME[trained][0], SAME[trained][1]()
    network = in_torch(exact.velocity(path))
    model = theirs.ScheduleTransformedModel(lambda x, t: network(x, t), old, new)
    changed = jax.jit(fields.change_path(exact.velocity(path), path, sampled))
    x = points()
    for t in (0.4, 0.7, 0.95):  # earlier the polynomial is noisier than the variance-preserving path begins
        expected = model(x=to_torch(x), t=torch.tensor(t))
        assert_close(changed(x, jnp.full(len(x), t)), to_jax(expected), 1e-11)


def test_the_loss_is_their_mean_square_times_the_dimensions():
    noise, data, t = points(), points(seed=1), TIMES.astype(float)
    sample = peers.AffineProbPath(theirs.CosineScheduler()).sample(
        to_torch(noise), to_torch(data), to_torch(t)
    )
    network = lambda x, t, y: jnp.sin(3 * x)  # noqa: E731
    expected = torch.nn.functional.mse_loss(torch.sin(3 * sample.x_t), sample.dx_t)
    fixed = lambda u: (t, jnp.ones_like(t))  # noqa: E731
    got = losses.flow_matching(
        jax.random.key(0), network, paths.Cosine(), data, None, noise=noise, time_distribution=fixed
    )
    assert_close(got.mean() / 2, to_jax(expected), 1e-12)


@pytest.mark.parametrize("zero_snr", [False, True])
def test_a_table_of_ddpm_mixes_as_diffusers_does(zero_snr, widened):
    """Its timestep k is our 1 - (k + 1) / n, its velocity our v, its zero terminal SNR a last rate of 1."""
    scheduler = diffusers.DDIMScheduler(trained_betas=BETAS.tolist(), rescale_betas_zero_snr=zero_snr)
    path = paths.DDPM(to_jax(scheduler.betas))
    noise, data = points(), points(seed=1)
    k = torch.tensor([0, 1, 99, 300, 500, 800, 998, 999])
    t = to_jax(1 - (k.double() + 1) / 1000)
    x, v = (f(to_torch(data), to_torch(noise), k) for f in (scheduler.add_noise, scheduler.get_velocity))
    assert_close(paths.interpolate(path, data, noise, t), to_jax(x), 1e-11)
    mixed = paths.interpolate(path, data, noise, t)
    got = predictions.convert(path, mixed, t, noise, source="noise", target="v")
    assert_close(got[:-1], to_jax(v)[:-1], 1e-9)
    velocity = paths.conditional_velocity(path, data, noise, t)
    got = predictions.convert(path, mixed, t, velocity, source="velocity", target="v")
    assert_close(got, to_jax(v), 1e-9)


def test_the_straight_path_mixes_as_diffusers_does(widened):
    """Its sigma is our 1 - t."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    chosen = [0, 100, 250, 500, 700, 900, 990, 999]
    noise, data, t = points(), points(seed=1), 1 - to_jax(scheduler.sigmas[chosen])
    x = scheduler.scale_noise(to_torch(data), scheduler.timesteps[chosen], to_torch(noise))
    assert_close(paths.interpolate(paths.Linear(), data, noise, t), to_jax(x), 1e-12)
