"""Text-video alignment: how well clips match their captions, claim by claim.

The reader recovers the scene in a clip, the parser the claims of its caption. As in
`jaxflow.shapes.alignment`, the things named are matched one to one with the objects in the clip so that as
many claims as possible hold, first those on single objects, then the order; all claims share one matching.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxflow.moving_shapes.captions import MovingDescription, parse
from jaxflow.moving_shapes.reader import read
from jaxflow.moving_shapes.scenes import MovingScene
from jaxflow.shapes.alignment import best_match, true_attributes

ATTRIBUTES = ("shape", "colour", "size", "motion", "direction", "speed")
CLAIMS = ("objects", *ATTRIBUTES, "order", "background", "all")
"""The measures of `alignment`, in order."""


def alignment(
    clips: Iterable[UInt8[np.ndarray, "frames 32 32 3"]], captions: Sequence[str]
) -> dict[str, float]:
    """The fraction of captions whose claims of each kind are true, among those that make such a claim.

    `objects`: the number of objects is right. `shape`, `colour`, `size`, `motion`, `direction`, `speed`:
    right for every thing for which it is named. `order`: the first passes in front of the second, or behind
    it, as in the caption. `background`: as in the caption. `all`: every claim is true. Claims about what the
    reader does not recognise count as false. Measures without captions are omitted.

    Args:
        clips: of two frames or more.
        captions: in the language of `jaxflow.moving_shapes.captions`, one per clip.

    Raises:
        ValueError: there are no captions, their number is not that of the clips, or one is not in the
            language.
    """
    scenes = [read(clip) for clip in clips]
    if len(scenes) != len(captions) or not captions:
        raise ValueError(f"{len(captions)} captions for {len(scenes)} clips: expected one per clip")
    held: dict[str, list[bool]] = defaultdict(list)
    for scene, caption in zip(scenes, captions, strict=True):
        for claim, holds in true_claims(parse(caption), scene).items():
            held[claim].append(holds)
    return {claim: float(np.mean(held[claim])) for claim in CLAIMS if claim in held}


def true_claims(description: MovingDescription, scene: MovingScene) -> dict[str, bool]:
    """Whether each claim of a description is true of a scene, by the names in `alignment`."""
    things = description.objects

    def is_ordered(match: tuple[Any, ...]) -> bool:
        if description.order is None or scene.front is None or None in match:
            return False
        return match[description.order == "behind"] is scene.objects[scene.front]

    match = best_match(things, scene.objects, ATTRIBUTES, is_ordered)
    claims = {"objects": len(scene.objects) == len(things)} | true_attributes(things, match, ATTRIBUTES)
    if description.order:
        claims["order"] = is_ordered(match)
    if description.background:
        claims["background"] = scene.background == description.background
    return claims | {"all": all(claims.values())}
