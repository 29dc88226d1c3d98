r"""Guidance: from fields to a field.

Bayes' rule for scores, grad log p_t(x | y) = grad log p_t(x) + grad log p_t(y | x), makes a guided
velocity out of an unguided one on a Gaussian path:

    u(x | y) = u(x) + b grad log p_t(y | x),    b = (alpha' beta^2 - beta' beta alpha) / alpha.

Guidance multiplies the second term by w. With a classifier that is `classifier`; replacing the
classifier by the difference of two fields gives `classifier_free`,

    u~ = (1 - w) u(x) + w u(x | y).

w = 0 ignores y, w = 1 is the conditional model, w > 1 strengthens. For w other than 0 and 1 the
ODE and the SDE of the same w end in different laws, and neither is the tilted density
p(x) p(y | x)^w: from a Gaussian pair with variances V (unguided) and v (guided) the ODE ends in
a Gaussian of variance V^(1 - w) v^w.

    rule                  in place of (1 - w) u(x) + w u(x | y)
    classifier_free       the rule itself; w may be `interval(w, start, end)` or any function of t
    by_classifier         u(x) + w b grad log p_t(y | x)
    autoguidance          a worse model in the place of u(x)
    rescaled              the size of u(x | y), in part
    projected             the difference without its part along the prediction, limited, with momentum
    zero_star             u(x) scaled to u(x | y); no motion at first
    rectified             the difference half a step ahead, by a second call

A rule is a function (field, y, null, w) -> field. `classifier_free` is one; the others are made of their
options first, as in `rescaled(share=0.5)(field, y, null, w)`. `several` takes several conditions with a scale
for each, u(x) + sum_i w_i (u(x | y_i) - u(x)), where w_i < 0 pushes away; `classifier` an unguided field.

The scale w is a number, one number per example, or a function of t. Each rule makes one batched call of the
field where one is enough. Where w is 1, as a number or by a function of t, the conditional model alone is
called (by `several`: where it is a number). Options are checked when the rule is made, w when it is
applied; where they are traced (`jax.vmap` over them, `jaxflow.sweeps`) they pass unchecked.

For a rule of your own there are `both`, `null_at`, `scale_at`, `affine` and `cheapest`; docs/rules.md
writes one.

Other conventions: `guidance_scale` of diffusers, Stable Diffusion, DiT, SiT = w; Ho and Salimans'
paper counts w - 1.

Source: "Building an Image Generator", section on guidance; Ho and Salimans 2207.12598;
Dhariwal and Nichol 2105.05233; each rule names its own.
"""

from jaxflow.guidance.affine import affine as affine
from jaxflow.guidance.affine import both as both
from jaxflow.guidance.affine import cheapest as cheapest
from jaxflow.guidance.affine import null_at as null_at
from jaxflow.guidance.autoguidance import autoguidance as autoguidance
from jaxflow.guidance.classifier import LogProb as LogProb
from jaxflow.guidance.classifier import by_classifier as by_classifier
from jaxflow.guidance.classifier import classifier as classifier
from jaxflow.guidance.classifier_free import classifier_free as classifier_free
from jaxflow.guidance.classifier_free import several as several
from jaxflow.guidance.projected import projected as projected
from jaxflow.guidance.rectified import rectified as rectified
from jaxflow.guidance.rescaled import rescaled as rescaled
from jaxflow.guidance.scales import interval as interval
from jaxflow.guidance.scales import scale_at as scale_at
from jaxflow.guidance.zero_star import zero_star as zero_star
