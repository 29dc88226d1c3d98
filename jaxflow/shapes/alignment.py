"""Text-image alignment: how well images match their captions, claim by claim.

The reader recovers the scene in an image, the parser the claims of its caption. The things named in the
caption are matched one to one with the objects in the image so that as many claims as possible hold: first
those on shape, colour and size, then the relation. Since all claims share one matching, `a red circle left of
a blue square` is not true of a blue circle left of a red square.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxflow.shapes.captions import Description, parse
from jaxflow.shapes.reader import read
from jaxflow.shapes.scenes import Object, Scene, place, relation

ATTRIBUTES = ("shape", "colour", "size")
CLAIMS = ("objects", *ATTRIBUTES, "relation", "place", "background", "binding", "all")
"""The measures of `alignment`, in order."""
Match = tuple[Object | None, ...]
"""The object matched to each named thing; None if the image has too few."""


def alignment(images: UInt8[np.ndarray, "n 32 32 3"], captions: Sequence[str]) -> dict[str, float]:
    """The fraction of captions whose claims of each kind are true, among those that make such a claim.

    `objects`: the number of objects is right. `shape`, `colour`, `size`: right for every thing for which it
    is named. `relation`, `place`, `background`: as in the caption. `binding`: the fraction of images with the
    right pairs of shape and colour, among those that show all named shapes and all named colours in any
    pairing; only for captions of two things that differ in both. `all`: every claim is true. Claims about
    what the reader does not recognise count as false. Measures without captions are omitted.

    Args:
        images: uint8, of 32 x 32 pixels.
        captions: in the language of `jaxflow.shapes.captions`, one per image.

    Raises:
        ValueError: there are no captions, their number is not that of the images, or one is not in the
            language.
    """
    if len(images) != len(captions) or not captions:
        raise ValueError(f"{len(captions)} captions for {len(images)} images: expected one per image")
    descriptions = [parse(caption) for caption in captions]
    held: dict[str, list[bool]] = defaultdict(list)
    for image, description in zip(images, descriptions, strict=True):
        for claim, holds in true_claims(description, read(image)).items():
            held[claim].append(holds)
    return {claim: float(np.mean(held[claim])) for claim in CLAIMS if claim in held}


def true_claims(description: Description, scene: Scene) -> dict[str, bool]:
    """Whether each claim of a description is true of a scene, by the names in `alignment`."""
    things = description.objects
    match = best_match(things, scene.objects, ATTRIBUTES, lambda match: _related(description, match))
    claims = {"objects": len(scene.objects) == len(things)} | true_attributes(things, match, ATTRIBUTES)
    if description.relation:
        claims["relation"] = _related(description, match)
    if description.place:
        claims["place"] = match[0] is not None and place(match[0]) == description.place
    if description.background:
        claims["background"] = scene.background == description.background
    everything = all(claims.values())
    if _could_be_swapped(description) and _has_parts(description, scene):
        claims["binding"] = claims["shape"] and claims["colour"]
    return claims | {"all": everything}


def best_match(
    things: Sequence[Any],
    objects: Sequence[Any],
    attributes: Sequence[str],
    joint: Callable[[tuple[Any, ...]], bool],
) -> tuple[Any, ...]:
    """The object for each thing, None if there are too few: so that most claims hold, then the joint one."""
    candidates = (*objects, *(None for _ in things))
    return max(
        itertools.permutations(candidates, len(things)),
        key=lambda match: (sum(sum(_holds(a, things, match)) for a in attributes), joint(match)),
    )


def true_attributes(
    things: Sequence[Any], match: Sequence[Any], attributes: Sequence[str]
) -> dict[str, bool]:
    """Whether an attribute is right for every thing for which it is named, if there is one."""
    holds = {attribute: _holds(attribute, things, match) for attribute in attributes}
    return {attribute: all(each) for attribute, each in holds.items() if each}


def _holds(attribute: str, things: Iterable[Any], match: Iterable[Any]) -> list[bool]:
    """Whether the attribute is right, for each thing for which the caption names it."""
    pairs = ((getattr(thing, attribute), o) for thing, o in zip(things, match, strict=True))
    return [o is not None and getattr(o, attribute) == claimed for claimed, o in pairs if claimed]


def _related(description: Description, match: Match) -> bool:
    if description.relation is None:
        return False
    first, second = match
    return first is not None and second is not None and relation(first, second) == description.relation


def _could_be_swapped(description: Description) -> bool:
    if len(description.objects) != 2:
        return False
    first, second = description.objects
    return None not in (first.colour, second.colour) and (
        first.colour != second.colour and first.shape != second.shape
    )


def _has_parts(description: Description, scene: Scene) -> bool:
    return all(
        {getattr(thing, attribute) for thing in description.objects}
        <= {getattr(o, attribute) for o in scene.objects}
        for attribute in ("shape", "colour")
    )
