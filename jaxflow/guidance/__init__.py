r"""Guidance: functions from fields to a field.

By Bayes' rule for scores, grad log p_t(x | y) = grad log p_t(x) + grad log p_t(y | x), the guided velocity
on a Gaussian path follows from the unguided one:

    u(x | y) = u(x) + b grad log p_t(y | x),    b = (alpha' beta^2 - beta' beta alpha) / alpha.

Guidance multiplies the second term by w. With a classifier this is `classifier`; replacing the
classifier term by the difference of the two fields gives `classifier_free`,

    u~ = (1 - w) u(x) + w u(x | y).

w = 0 ignores y, w = 1 is the conditional model, and w > 1 strengthens the condition. For w other than 0
and 1 the ODE and the SDE of the same w sample different distributions, and neither samples the tilted density
p(x) p(y | x)^w: for a Gaussian pair with variances V (unguided) and v (guided) the ODE ends in a Gaussian of
variance V^(1 - w) v^w.

    rule                  instead of (1 - w) u(x) + w u(x | y)
    classifier_free       the rule itself; w may be `interval(w, start, end)` or any function of t, and
                          with `plus_plus(w, path, times)` DDIM takes the steps of CFG++
    by_classifier         u(x) + w b grad log p_t(y | x)
    autoguidance          a worse model replaces u(x), or the model itself with its attention or depth
                          changed, `fields.from_network(..., change=...)`
    internal              an auxiliary head of the same network, in the same call, replaces u(x)
    rescaled              the result, of any rule, has in part the standard deviation of u(x | y)
    projected             the difference loses its part along the prediction; norm limit, momentum
    tangential_damping    u(x) loses its part across the direction that it shares with u(x | y)
    frequency_decoupled   a scale per band of frequencies of the image
    magnitude_aware       a smaller scale where the difference is large beside u(x)
    zero_star             the projection of u(x | y) on u(x) replaces u(x); zero velocity at first
    rectified             the difference is evaluated half a step ahead, by a second call
    on_channels           the rule itself in the first channels, u(x | y) in the others

A rule is a function (field, y, null, w) -> field. `classifier_free` is one; the others are functions of their
options that return one, as in `rescaled(phi=0.5)(field, y, null, w)`. `several` takes several conditions
with one scale each, u(x) + sum_i w_i (u(x | y_i) - u(x)), where w_i < 0 pushes away from y_i; `classifier`
takes an unguided field; `extrapolated` is the field of `internal` for another rule to guide.

The scale w is a number, one number per example, or a function of t. Each rule makes a single batched call of
the field if one suffices. Where w is 1, as a number or as a function of t, only the conditional model is
evaluated (in `several`: for numbers only). Options are checked when the rule is made, w when it is applied;
traced values (`jax.vmap` over them, `jaxflow.sweeps`) pass unchecked.

The building blocks of your own rule are `both`, `null_at`, `scale_at`, `affine` and `cheapest`; docs/rules.md
shows an example.

Other conventions: w is `guidance_scale` in diffusers, Stable Diffusion, DiT and SiT; the scale in Ho and
Salimans' paper is w - 1.

Source: "Building an Image Generator", section on guidance; Ho and Salimans 2207.12598;
Dhariwal and Nichol 2105.05233; each rule cites its own.
"""

from jaxflow.guidance.affine import affine as affine
from jaxflow.guidance.affine import both as both
from jaxflow.guidance.affine import cheapest as cheapest
from jaxflow.guidance.affine import null_at as null_at
from jaxflow.guidance.autoguidance import autoguidance as autoguidance
from jaxflow.guidance.channels import on_channels as on_channels
from jaxflow.guidance.classifier import LogProb as LogProb
from jaxflow.guidance.classifier import by_classifier as by_classifier
from jaxflow.guidance.classifier import classifier as classifier
from jaxflow.guidance.classifier_free import classifier_free as classifier_free
from jaxflow.guidance.classifier_free import several as several
from jaxflow.guidance.frequencies import frequency_decoupled as frequency_decoupled
from jaxflow.guidance.internal import extrapolated as extrapolated
from jaxflow.guidance.internal import internal as internal
from jaxflow.guidance.magnitude import magnitude_aware as magnitude_aware
from jaxflow.guidance.plus_plus import plus_plus as plus_plus
from jaxflow.guidance.projected import projected as projected
from jaxflow.guidance.rectified import rectified as rectified
from jaxflow.guidance.rescaled import rescaled as rescaled
from jaxflow.guidance.scales import interval as interval
from jaxflow.guidance.scales import scale_at as scale_at
from jaxflow.guidance.tangential import tangential_damping as tangential_damping
from jaxflow.guidance.zero_star import zero_star as zero_star
