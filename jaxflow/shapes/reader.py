"""An exact reader: recovers the scene from an image, by analysis and synthesis.

The background is the colour of the border. Pixels that differ from it form connected blobs. For a blob of
colour c on background b, the coverage of a pixel p is

    a = <p - b, c - b> / |c - b|^2, clipped to [0, 1].

The sum of `a` is the area, and its centre of mass the position, at which each shape is redrawn in the size of
this area. The shape with the best intersection over union, sum min(a, drawn) / sum max(a, drawn), sharp or
slightly blurred, is chosen. If none matches well enough, the shape is `unknown`: nothing is forced into a
class.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from jaxflow.shapes.scenes import BACKGROUNDS, COLOURS, SHAPES, SIDE, Object, Scene, coverage

UNKNOWN = "unknown"
"""Stands for a shape, colour, size or background that is not one of the world's."""

COLOUR_REACH = 60.0
"""Largest distance from a colour of the world that counts as it, in grey levels; no two are within 120."""
COLOUR_SHARE = 0.75
"""Fraction of the pixels, of the border or in the core of an object, that must have its colour."""
FOREGROUND = 50.0
"""Smallest distance from the background at which a pixel belongs to an object, in grey levels."""
SPECK = 6.0
"""Area in pixels below which a blob is ignored; the smallest object has 18."""
AGREEMENT = 0.85
"""Smallest intersection over union of an object with the drawing of its shape."""
SIZE_LIMITS = {"small": (2.5, 4.75), "large": (4.75, 8.0)}
"""Radii in pixels; the world's are 3.25 to 4 and 5.5 to 6.5. Below these, shapes cannot be told apart."""

AREAS = {"circle": np.pi, "square": 49 / 16, "triangle": 7 / 4, "cross": 39 / 16}
"""Areas of the shapes, in units of the squared radius."""
LOWER = {"circle": 0.0, "square": 0.0, "triangle": 7 / 24, "cross": 0.0}
"""Distance of the centre of mass below the centre of the bounding box, in units of the radius."""
_NEXT = np.eye(SIDE, k=1) + np.eye(SIDE, k=-1)
_BLURS = tuple((1 - v) * np.eye(SIDE) + v / 2 * _NEXT for v in (0.0, 0.25, 0.5))
"""Blurs of rows or columns, as matrices that add variance v, in squared pixels."""
_NEIGHBOURS = np.ones((3, 3), bool)


def read(image: UInt8[np.ndarray, "h w 3"]) -> Scene:
    """The scene in an image, its objects ordered from the upper left to the lower right.

    There may be any number of objects, and what is not recognised is `UNKNOWN`. Radius and centre of
    an object of unknown shape are those of a circle of the same area.

    Raises:
        ValueError: the image is not 32 x 32 pixels, for which small and large are defined.
    """
    if image.shape != (SIDE, SIDE, 3):
        raise ValueError(f"image has the shape {image.shape}: expected {(SIDE, SIDE, 3)}")
    pixels = image.astype(np.float64)
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    background = np.median(border, axis=0)
    distance = np.linalg.norm(pixels - background, axis=-1)
    labels, count = ndimage.label(distance > FOREGROUND, _NEIGHBOURS)
    blobs = (_read_blob(pixels, background, distance, labels == k) for k in range(1, count + 1))
    objects = sorted((o for o in blobs if o), key=lambda o: sum(o.centre))
    return Scene(tuple(objects), name_colour(border, BACKGROUNDS))


def _read_blob(
    pixels: Float[np.ndarray, "h w 3"],
    background: Float[np.ndarray, "3"],
    distance: Float[np.ndarray, "h w"],
    blob: Bool[np.ndarray, "h w"],
) -> Object | None:
    if blob.sum() < SPECK:
        return None
    # Edge pixels are mixed with the background; the colour is read from the pixels that differ most from it.
    core = pixels[blob & (distance >= 0.85 * np.quantile(distance[blob], 0.9))]
    covered = _cover(pixels, background, np.median(core, axis=0), blob)
    shape, centre, radius = fit(covered)
    sizes = [size for size, (least, most) in SIZE_LIMITS.items() if least <= radius < most]
    return Object(shape, name_colour(core, COLOURS), sizes[0] if sizes else UNKNOWN, centre, radius)


def _cover(
    pixels: Float[np.ndarray, "h w 3"],
    background: Float[np.ndarray, "3"],
    colour: Float[np.ndarray, "3"],
    blob: Bool[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w"]:
    """The coverage of each pixel by the blob, whose soft edge extends one pixel beyond it."""
    direction = colour - background
    covered = np.clip((pixels - background) @ direction / max(direction @ direction, 1.0), 0, 1)
    covered *= ndimage.binary_dilation(blob, _NEIGHBOURS)
    # The median of several colours may be none of them, or the background; then take the blob itself.
    return covered if covered.sum() >= SPECK else blob.astype(np.float64)


def fit(covered: Float[np.ndarray, "h w"]) -> tuple[str, tuple[float, float], float]:
    """The shape, centre and radius whose drawing matches best."""
    area = covered.sum()
    row, column = ((covered.sum(axis) @ (np.arange(SIDE) + 0.5)) / area for axis in (1, 0))
    fits = {}
    for shape in SHAPES:
        radius = float(np.sqrt(area / AREAS[shape]))
        fits[shape] = (float(row - LOWER[shape] * radius), float(column)), radius
    scores = {shape: _agreement(covered, coverage(shape, *fit) / 16) for shape, fit in fits.items()}
    best = max(scores, key=lambda shape: scores[shape])
    if scores[best] < AGREEMENT or fits[best][1] < SIZE_LIMITS["small"][0]:
        return UNKNOWN, *fits["circle"]
    return best, *fits[best]


def _agreement(covered: Float[np.ndarray, "h w"], drawn: Float[np.ndarray, "h w"]) -> float:
    """Intersection over union at the best of the blurs, both smoothed slightly against noise."""
    soft = _BLURS[1]
    covered, drawn = soft @ covered @ soft, soft @ drawn @ soft
    candidates = (blur @ drawn @ blur for blur in _BLURS)
    return max(float(np.minimum(covered, d).sum() / np.maximum(covered, d).sum()) for d in candidates)


def name_colour(pixels: Float[np.ndarray, "n 3"], colours: dict[str, tuple[int, int, int]]) -> str:
    """The name of the colour that most of the pixels have; `UNKNOWN` if none has `COLOUR_SHARE` of them."""
    distances = np.linalg.norm(pixels[:, None] - np.array(list(colours.values()), float), axis=-1)
    shares = np.mean(distances <= COLOUR_REACH, axis=0)
    return list(colours)[int(np.argmax(shares))] if shares.max() >= COLOUR_SHARE else UNKNOWN
