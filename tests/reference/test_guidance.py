"""Guidance rules against the guiders of diffusers on an arbitrary field, and against ADM's DDIM."""

import importlib

import jax
import jax.numpy as jnp
import pytest
from conftest import Lazy, assert_close, three_components

from jaxflow import guidance, mixtures, paths, predictions, sampling, times
from jaxflow.per_example import expand
from reference import exact
from reference.exact import in_torch, points, to_jax, to_torch

torch, diffusers, guiders = Lazy("torch"), Lazy("diffusers"), Lazy("diffusers.guiders")
W = 3.5
NULL = jnp.array(0.0)


def images(n=3):
    return jax.random.normal(jax.random.key(0), (n, 4, 4, 2)), jnp.arange(1.0, n + 1)


def field(x, t, y):
    return jnp.sin(2 * x + expand(y, x)) * expand(1 + t, x) - 0.3


def worse(x, t, y):
    return 0.5 * jnp.cos(x + expand(y, x))


def both(x, t, y):
    """The conditional and the unconditional velocity for a guider."""
    return [to_torch(field(x, t, labels)) for labels in (y, jnp.zeros_like(y))]


def step_of(guider, n, steps):
    guider.set_state(step=n, num_inference_steps=steps, timestep=None)
    return guider


@pytest.mark.parametrize("share", [0.0, 0.7])
@pytest.mark.parametrize("original", [False, True])
def test_classifier_free_and_rescaled(share, original):
    """With `use_original_formulation` the scale is w - 1. Their deviations divide by n - 1, which cancels."""
    x, y = images()
    t = jnp.full(3, 0.3)
    guider = guiders.ClassifierFreeGuidance(
        W - original, guidance_rescale=share, use_original_formulation=original
    )
    rule = guidance.rescaled(phi=share) if share else guidance.classifier_free
    assert_close(rule(field, y, NULL, W)(x, t), to_jax(guider.forward(*both(x, t, y)).pred), 1e-12)


def test_an_interval_of_times_is_their_share_of_the_steps():
    """From step start * n up to step stop * n, exclusive: our times on a uniform grid."""
    x, y = images()
    guider = guiders.ClassifierFreeGuidance(W, start=0.2, stop=0.7)
    rule = guidance.classifier_free(field, y, NULL, guidance.interval(W, 0.2, 0.7))
    for n, time in enumerate(times.uniform(10)[:-1]):
        t = jnp.full(3, time)
        pred = step_of(guider, n, 10).forward(*both(x, t, y)).pred
        assert_close(rule(x, t), to_jax(pred), 1e-12)


def test_autoguidance():
    """The guider is given both outputs; we do not build its worse model by skipping layers."""
    x, y = images()
    t = jnp.full(3, 0.3)
    guider = guiders.AutoGuidance(W, auto_guidance_layers=0, dropout=1.0)
    pred = guider.forward(to_torch(field(x, t, y)), to_torch(worse(x, t, y))).pred
    assert_close(guidance.autoguidance(worse)(field, y, NULL, W)(x, t), to_jax(pred), 1e-12)


@pytest.mark.parametrize(
    "name", ["PerturbedAttentionGuidance", "SkipLayerGuidance", "SmoothedEnergyGuidance"]
)
def test_guidance_away_from_a_changed_network(name):
    """Without classifier-free guidance their scale is w; with it they add the two terms."""
    x, y = images()
    t = jnp.full(3, 0.3)
    scale, layers = {
        "PerturbedAttentionGuidance": ("perturbed_guidance_scale", "perturbed_guidance_layers"),
        "SkipLayerGuidance": ("skip_layer_guidance_scale", "skip_layer_guidance_layers"),
        "SmoothedEnergyGuidance": ("seg_guidance_scale", "seg_guidance_layers"),
    }[name]
    guider = getattr(guiders, name)(1.0, **{scale: W, layers: [0]})
    pred = guider.forward(to_torch(field(x, t, y)), None, to_torch(worse(x, t, y))).pred
    assert_close(guidance.autoguidance(worse)(field, y, NULL, W)(x, t), to_jax(pred), 1e-12)


@pytest.mark.parametrize("momentum", [None, -0.5])
@pytest.mark.parametrize("limit", [2.0, 15.0])
def test_projected_guidance_of_the_predicted_data(momentum, limit):
    """With `use_original_formulation`, from the conditional data, as in the paper, over several steps.

    The guider takes any prediction; its paper and we take the predicted data. By default it starts from the
    unconditional data, which is equivalent only at eta = 1 without limit and momentum.
    """
    path, (x, y) = paths.Cosine(), images()
    guider = guiders.AdaptiveProjectedGuidance(
        W - 1,
        adaptive_projected_guidance_momentum=momentum,
        adaptive_projected_guidance_rescale=limit,
        eta=0.3,
        use_original_formulation=True,
    )
    rule = guidance.projected(path, parallel=0.3, limit=limit, momentum=momentum or 0.0)(field, y, NULL, W)
    memory = rule.start(x) if momentum else None
    # A guider creates its memory when it prepares the inputs of its first step.
    step_of(guider, 0, 3).prepare_inputs({})
    for time in (0.1, 0.4, 0.8):
        t = jnp.full(3, time)
        conditional, unguided = (
            _to_data(path, x, t, field(x, t, labels)) for labels in (y, jnp.zeros_like(y))
        )
        pred = guider.forward(to_torch(conditional), to_torch(unguided)).pred
        if momentum:
            got, memory = rule.call(x, t, memory)
        else:
            got = rule(x, t)
        assert_close(_to_data(path, x, t, got), to_jax(pred), 1e-11)


def _to_data(path, x, t, velocity):
    return predictions.convert(path, x, t, velocity, source="velocity", target="data")


def test_tangential_damping_of_the_predicted_noise(monkeypatch):
    """The guider projects any prediction; its paper and we project the noise."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    path, (x, y) = paths.Cosine(), images()
    guider = guiders.TangentialClassifierFreeGuidance(W)
    rule = guidance.tangential_damping(path)(field, y, NULL, W)
    for time in (0.1, 0.4, 0.8):
        t = jnp.full(3, time)
        to_noise = lambda u: predictions.convert(path, x, t, u, source="velocity", target="noise")  # noqa: B023, E731
        noises = [to_torch(to_noise(field(x, t, labels))) for labels in (y, jnp.zeros_like(y))]
        assert_close(to_noise(rule(x, t)), to_jax(guider.forward(*noises).pred), 1e-11)


@pytest.mark.parametrize("original", [False, True])
def test_magnitude_aware(original):
    """Of tokens (b, n, c): for images (b, c, h, w) the guider asks torch for a matrix norm, and fails."""
    x, y = images()
    t = jnp.full(3, 0.3)
    guider = guiders.MagnitudeAwareGuidance(W - original, alpha=0.6, use_original_formulation=original)
    rule = guidance.magnitude_aware(alpha=0.6)(field, y, NULL, W)
    pred = guider.forward(*(value.flatten(1, 2) for value in both(x, t, y))).pred
    assert_close(rule(x, t), to_jax(pred).reshape(x.shape), 1e-12)


def test_frequency_decoupled(monkeypatch):
    """With the pyramid of kornia, which the guider imports: its blur and interpolation by torch."""
    one = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0])
    kernel = (torch.outer(one, one) / 256).expand(2, 1, 5, 5)
    functional = torch.nn.functional

    def blurred(image):
        return functional.conv2d(functional.pad(image, (2,) * 4, mode="reflect"), kernel, groups=2)

    def resized(image, factor):
        size = [int(side * factor) for side in image.shape[2:]]
        return functional.interpolate(image, size=size, mode="bilinear", align_corners=False)

    up = lambda image: blurred(resized(image, 2))  # noqa: E731

    def pyramid(image, levels):
        if levels == 1:
            return [image]
        lower = resized(blurred(image), 0.5)
        return [image - up(lower), *pyramid(lower, levels - 1)]

    module = importlib.import_module("diffusers.guiders.frequency_decoupled_guidance")
    monkeypatch.setattr(module, "_CAN_USE_KORNIA", True)
    monkeypatch.setattr(module, "upsample_and_blur_func", up, raising=False)
    monkeypatch.setattr(module, "build_laplacian_pyramid_func", pyramid, raising=False)
    y = jnp.arange(1.0, 4.0)
    x, t = jax.random.normal(jax.random.key(0), (3, 16, 8, 2)), jnp.full(3, 0.3)
    guider = guiders.FrequencyDecoupledGuidance(guidance_scales=[W, 1 + 0.4 * (W - 1)])
    pred = guider.forward(*(value.permute(0, 3, 1, 2) for value in both(x, t, y))).pred
    rule = guidance.frequency_decoupled((1.0, 0.4))(field, y, NULL, W)
    assert_close(rule(x, t), to_jax(pred.permute(0, 2, 3, 1)), 1e-12)


@pytest.mark.parametrize("steps", [0, 2])
def test_zero_star(steps, monkeypatch):
    """Their first steps are ours before zero_until = grid[steps]; they add 1e-8 to |u(x)|^2."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    x, y = images()
    guider = guiders.ClassifierFreeZeroStarGuidance(W, zero_init_steps=steps)
    grid = times.shifted(5, 3.0)
    rule = guidance.zero_star(zero_until=grid[steps])(field, y, NULL, W)
    for n, time in enumerate(grid[:-1]):
        t = jnp.full(3, time)
        pred = step_of(guider, n, 5).forward(*both(x, t, y)).pred
        assert_close(rule(x, t), to_jax(pred), 1e-8)


def test_classifier_guidance_is_that_of_adm(widened):
    """DDIM with noise - beta w grad log p(y | x): Dhariwal and Nichol 2105.05233, algorithm 2."""
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    path, mixture = paths.DDPM(to_jax(scheduler.betas)), three_components()
    y = jnp.arange(8) % 3

    def log_prob(x, t, y):
        return jnp.take_along_axis(mixtures.class_log_prob(mixture, path, x, t), y[:, None], axis=1)[:, 0]

    def noise(x, t):
        gradient = jax.grad(lambda x: jnp.sum(log_prob(x, t, y)))(x)
        return exact.noise(path)(x, t) - W * expand(path.beta(t), x) * gradient

    network, x = in_torch(noise), to_torch(points())
    for k, t in zip(scheduler.timesteps, times.uniform(10), strict=False):
        x = scheduler.step(network(x, t), k, x).prev_sample
    guided = guidance.classifier(exact.velocity(path), path, log_prob, y, W)
    got = sampling.sample_ddpm(jax.random.key(0), guided, path, points(), 10, eta=0.0)
    assert_close(got, to_jax(x), 1e-11)
