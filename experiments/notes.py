"""What `sample` prints about a model, and about options that do not change its images."""

import math
import textwrap
from collections.abc import Iterator, Sequence

import jax

from jaxflow.data.codecs import Captions, Classes, Codec
from jaxflow.data.names import shown
from jaxflow.runs import rules
from jaxflow.runs.model import Model
from jaxflow.runs.requests import ClassOrPrompt
from jaxflow.runs.sampler import Sampler

WIDTH = 80
"""Columns of a terminal."""


def summary(title: str, model: Model) -> str:
    """The model in one line.

    A long list of classes is cut; `description` has all of them.
    """
    shape, said = " x ".join(map(str, model.space.image_shape)), _conditions(model.codec)
    if isinstance(model.codec, Classes):
        said = textwrap.shorten(f"{said}: {', '.join(map(shown, model.classes))}", 38, placeholder=" ...")
    return f"{title}, {shape}, {said}"


def description(
    origin: dict[str, str], model: Model, samplers: dict[int | None, Sampler], sigma: float
) -> str:
    """The model in full, with all its classes or words, and how images would be sampled."""
    sampler = next(iter(samplers.values()))
    steps = f"{sampler.solver_name(model.prediction, sigma)}, {sampler.steps} steps"
    steps += f", churn {sampler.churn:g}" if sampler.churn else ""
    steps += f", data clipped ({sampler.clip})" if sampler.clip else ""
    guided = ", guided from t = {:g} to {:g}".format(*sampler.interval) if sampler.interval else ""
    calls = ", ".join(map(str, samplers))
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(model.params))
    network = f"{origin['network']}, " if "network" in origin else ""
    lines = origin | {
        "images": " x ".join(map(str, model.space.image_shape)),
        "network": f"{network}{size:,} parameters",
        "predicts": f"{model.prediction}, on the path {type(model.path).__name__}",
        "sampler": (steps if None in samplers else f"jumps of a flow map: {calls}") + guided,
        "rules": ", ".join(rules.RULES),
        "conditions": _conditions(model.codec),
    }
    text = [_wrapped(f"{name:12}{value}", 12) for name, value in lines.items()]
    if isinstance(model.codec, Classes):
        text += [f"{i:10}  {shown(name)}" for i, name in enumerate(model.classes)]
    elif isinstance(model.codec, Captions):
        text.append(textwrap.indent(_wrapped(" ".join(map(shown, model.codec.words)), 0), " " * 12))
    return "\n".join(text)


def without_effect(
    codec: Codec,
    sampler: Sampler,
    rule: str,
    scales: Sequence[float],
    asked: Sequence[ClassOrPrompt],
    negative: ClassOrPrompt,
) -> Iterator[str]:
    """A line for each option that does not change the images, and when it would.

    Args:
        codec: of the model's conditions.
        sampler: of the images.
        rule: of guidance.
        scales: of guidance.
        asked: classes or prompts of the rows, empty where none were chosen.
        negative: class or prompt to guide away from.
    """
    of_w = ", ".join(f"{w:g}" for w in scales if rules.is_conditional(rule, w, sampler.steps))
    if isinstance(codec, Classes) and len(codec.names) == 1:
        yield "there is one class only: w, --rule and --negative hardly change the images"
    at_all_times = sampler.interval is None
    if all(rules.is_conditional(rule, w, sampler.steps) for w in scales):
        if rule != "classifier_free":
            yield f"--rule {rule} has no effect at w = {of_w}, the conditional model"
        if not at_all_times:
            yield f"--interval has no effect at w = {of_w}, the conditional model"
    if asked and rule in ("classifier_free", "classifier") and all(w == 0 for w in scales) and at_all_times:
        yield "--labels and --prompt have no effect at w = 0, the unconditional model"
    if negative is not None and rule in rules.WITHOUT_NULL:
        yield f"--negative has no effect with --rule {rule}"
    elif negative is not None and of_w:
        yield f"--negative has no effect at w = {of_w}, the conditional model"
    if negative is not None and rule == "classifier_free" and 0 in scales and at_all_times:
        yield "at w = 0 all images are those of --negative"
    if negative is not None and negative in asked:
        name = codec.names[int(negative)] if isinstance(codec, Classes) else negative
        yield f"--negative {shown(name, 20)} is also a row, whose images do not depend on w"


def _conditions(codec: Codec) -> str:
    if isinstance(codec, Classes):
        return f"{len(codec.names)} class{'es' if len(codec.names) > 1 else ''}"
    if isinstance(codec, Captions):
        return f"captions of up to {codec.length} of {len(codec.words)} words"
    return f"prompts, read by {getattr(codec, 'folder', type(codec).__name__)}"


def _wrapped(text: str, indent: int) -> str:
    width = WIDTH - (0 if indent else 12)
    return textwrap.fill(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)
