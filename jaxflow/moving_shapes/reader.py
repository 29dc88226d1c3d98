"""An exact reader: recovers objects, paths, motions and order from frames alone, by analysis and synthesis.

The colours of a clip are found first. Every pixel then lies on a segment between the background and a
colour or, where objects touch, between two colours; its position there is its coverage by these colours, and
each colour makes a layer. The blobs of the layers are tracked from frame to frame, and their shapes are read
as in `jaxflow.shapes.reader`. Where two layers touch, that of the object in front is complete and gives its
centre; the one behind is interpolated between the frames in which it is complete. In front is the object
whose colour is seen where the drawings of both overlap.

A motion is that of the model nearest to the path (`motions`). Where none is near, it is `unknown`: nothing is
forced into a class.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from jaxflow.moving_shapes.motions import STRAY, Fit, between, line, motions
from jaxflow.moving_shapes.scenes import MovingObject, MovingScene
from jaxflow.shapes.reader import (
    AREAS,
    COLOUR_REACH,
    FOREGROUND,
    LOWER,
    SIZE_LIMITS,
    SPECK,
    UNKNOWN,
    fit,
    name_colour,
)
from jaxflow.shapes.scenes import BACKGROUNDS, COLOURS, SIDE, coverage

LOOKS = 5
"""Frames, evenly spaced, in which the shape and colour of an object are read."""
SAME = 0.75
"""Fraction of these in which it must have the same shape, and of the frames in which it is on its path."""
SWELL = 0.25
"""Largest root mean square difference of the radii from a line, in pixels."""
GROWTH = (1.12, 1.2)
"""Ratio of the last radius to the first up to which an object keeps its size, and from which it grows."""
MIXED = 3.0
"""By how many grey levels a mixture of two colours must be nearer than one with the background."""
OVERLAP = 8.0
"""Smallest overlap of two objects, in pixels summed over the frames, that tells which is in front."""
IN_FRONT = 0.75
"""Smallest share of the colour of the front object in what is seen of the overlap."""

_NEIGHBOURS = np.ones((1, 3, 3), bool)
_WITHIN_FRAMES = np.zeros((3, 3, 3), bool)
_WITHIN_FRAMES[1] = True
_MOST = 4
"""Objects of one colour that are followed."""


@dataclass(frozen=True)
class Reading(MovingScene):
    """What a clip shows; `UNKNOWN` stands for what is not recognised.

    There may be any number of objects. `persistence` is the fraction of the frames in which every object is
    seen in its colour, or is hidden behind another.
    """

    persistence: float


class _Track(NamedTuple):
    """An object in n frames, as far as it is seen.

    Attributes:
        layer: index of its colour.
        colour: one of `COLOURS`, or `UNKNOWN`.
        shape: one of `SHAPES`, or `UNKNOWN`.
        masses: row and column of the centre of mass of what is seen (n, 2).
        areas: its area in pixels (n,), 0 where nothing is seen.
        apart: whether no other colour touches it (n,), so that all of it is seen.
        complete: whether all of it is seen (n,).
    """

    layer: int
    colour: str
    shape: str
    masses: Float[np.ndarray, "n 2"]
    areas: Float[np.ndarray, "n"]
    apart: Bool[np.ndarray, "n"]
    complete: Bool[np.ndarray, "n"]

    def radii(self) -> Float[np.ndarray, "n"]:
        """Those of its shape, of a circle if that is unknown; interpolated unless it is apart."""
        return _interpolated(np.sqrt(self.areas / AREAS[self._like()]), self.apart)

    def centres(self) -> Float[np.ndarray, "n 2"]:
        """Rows and columns, interpolated unless it is complete."""
        rows = self.masses[:, 0] - LOWER[self._like()] * self.radii()
        return np.stack([_interpolated(x, self.complete) for x in (rows, self.masses[:, 1])], axis=1)

    def drawn(self) -> Float[np.ndarray, "n h w"]:
        """Its coverage of the pixels, all of it."""
        placed = zip(self.centres().tolist(), self.radii().tolist(), strict=True)
        return np.stack([coverage(self._like(), (row, column), r) for (row, column), r in placed]) / 16

    def _like(self) -> str:
        return "circle" if self.shape == UNKNOWN else self.shape


def read(clip: UInt8[np.ndarray, "n h w 3"]) -> Reading:
    """The scene in a clip of two frames or more.

    Raises:
        ValueError: there are fewer frames, or they are not 32 x 32 pixels, for which sizes and speeds are
            defined.
    """
    if clip.shape[1:] != (SIDE, SIDE, 3) or len(clip) < 2:
        raise ValueError(
            f"clip has the shape {clip.shape}: expected (n, {SIDE}, {SIDE}, 3) with n of at least 2"
        )
    pixels = clip.astype(np.float64)
    edges = [pixels[:, 0], pixels[:, -1], pixels[:, 1:-1, 0], pixels[:, 1:-1, -1]]
    border = np.concatenate(edges, axis=1).reshape(-1, 3)
    background = np.median(border, axis=0)
    layers, contrasts = _layers(pixels, background)
    tracks = list(_tracks(pixels, layers, contrasts))
    front, partly = _in_front(tracks, layers)
    if front is not None:
        whole = tracks[front].complete | (tracks[front].areas >= SPECK)
        tracks[front] = tracks[front]._replace(complete=whole)
    seen = [track.complete | parts for track, parts in zip(tracks, partly, strict=True)]
    objects = tuple(_object(track, float(its.mean())) for track, its in zip(tracks, seen, strict=True))
    persistence = float(np.mean(np.all(seen, axis=0))) if seen else 1.0
    return Reading(objects, name_colour(border, BACKGROUNDS), front, persistence)


def path_error(path: Float[np.ndarray, "n 2"], other: Float[np.ndarray, "n 2"]) -> float:
    """The mean distance between the centres of two paths, in pixels."""
    return float(np.mean(np.linalg.norm(path - other, axis=-1)))


def _layers(
    pixels: Float[np.ndarray, "n h w 3"], background: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "k n h w"], Float[np.ndarray, "k"]]:
    """The coverage of each pixel by each colour, and the distances of the colours from the background."""
    foreground = _lengths(pixels - background) > FOREGROUND
    distances = np.stack([_lengths(pixels - np.array(value, float)) for value in COLOURS.values()])
    nearest = np.where(foreground & (distances.min(0) <= COLOUR_REACH), distances.argmin(0), -1)
    colours = [np.median(pixels[own], axis=0) for k in range(len(COLOURS)) if _is_common(own := nearest == k)]
    layers, far = _unmix(pixels, background, colours)
    if _is_common(rest := far > COLOUR_REACH):
        colours.append(np.median(pixels[rest], axis=0))
        layers, _ = _unmix(pixels, background, colours)
    return layers, np.array([np.linalg.norm(colour - background) for colour in colours])


def _is_common(where: Bool[np.ndarray, "n h w"]) -> bool:
    """Whether a quarter of the frames show it."""
    return bool(np.mean(where.sum((1, 2)) >= SPECK) >= 1 / 4)


def _unmix(
    pixels: Float[np.ndarray, "n h w 3"],
    background: Float[np.ndarray, "3"],
    colours: list[Float[np.ndarray, "3"]],
) -> tuple[Float[np.ndarray, "k n h w"], Float[np.ndarray, "n h w"]]:
    """The coverages, and the distance of each pixel from the segment on which it is assumed to lie.

    Two colours are mixed only in pixels next to both.
    """
    layers = np.zeros((len(colours), *pixels.shape[:-1]))
    best = _lengths(pixels - background)
    for k, colour in enumerate(colours):
        share, distance = _project(pixels, background, colour)
        nearer = distance < best
        best[nearer] = distance[nearer]
        layers[:, nearer] = 0
        layers[k, nearer] = share[nearer]
    near = [
        ndimage.binary_dilation(layer * np.linalg.norm(colour - background) > FOREGROUND, _NEIGHBOURS)
        for layer, colour in zip(layers, colours, strict=True)
    ]
    for (j, first), (k, second) in itertools.combinations(enumerate(colours), 2):
        share, distance = _project(pixels, first, second)
        nearer = near[j] & near[k] & (distance < best - MIXED)
        best[nearer] = distance[nearer]
        layers[:, nearer] = 0
        layers[j, nearer], layers[k, nearer] = 1 - share[nearer], share[nearer]
    return layers, best


def _project(
    pixels: Float[np.ndarray, "n h w 3"], start: Float[np.ndarray, "3"], end: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "n h w"], Float[np.ndarray, "n h w"]]:
    """The nearest points of a segment, as shares of its end, and their distances."""
    along = end - start
    share = np.clip((pixels - start) @ along / max(along @ along, 1.0), 0, 1)
    return share, _lengths(pixels - start - share[..., None] * along)


def _lengths(vectors: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n h w"]:
    return np.sqrt(np.einsum("nhwc,nhwc->nhw", vectors, vectors))  # four times faster than a norm


def _tracks(
    pixels: Float[np.ndarray, "n h w 3"],
    layers: Float[np.ndarray, "k n h w"],
    contrasts: Float[np.ndarray, "k"],
) -> Iterator[_Track]:
    """The objects of each colour, as many as in the median frame, among those where no other touches it."""
    masks = layers * contrasts[:, None, None, None] > FOREGROUND
    for k, (layer, mask) in enumerate(zip(layers, masks, strict=True)):
        near = ndimage.binary_dilation(mask, _NEIGHBOURS)
        others = np.delete(masks, k, axis=0).any(0)
        apart = ~(near & others).any((1, 2))
        if not apart.any():
            apart[:] = True
        labels, count = ndimage.label(mask, _WITHIN_FRAMES)
        owners = ndimage.maximum_filter(labels, (1, 3, 3))  # with the soft edges of the blobs
        blobs = _blobs(layer, owners, count)
        counts = np.array([len(here) for here in blobs])
        usual = int(np.sort(counts[apart])[apart.sum() // 2])
        if usual == 1:
            blobs = [here if apart[t] or not here else [_union(here)] for t, here in enumerate(blobs)]
        for chain in _follow(blobs, min(usual, _MOST), apart) if usual else ():
            yield _track(k, chain, pixels, layer, owners, apart)


class _Blob(NamedTuple):
    """A connected part of a layer: its labels there, its centre of mass and its area, in pixels."""

    labels: tuple[int, ...]
    row: float
    column: float
    area: float


def _blobs(
    layer: Float[np.ndarray, "n h w"], owners: Int[np.ndarray, "n h w"], count: int
) -> list[list[_Blob]]:
    """The blobs of each frame that are no specks."""
    frames, rows, columns = np.nonzero(owners)
    labels, covered = owners[frames, rows, columns], layer[frames, rows, columns]
    areas, row_sums, column_sums = (
        np.bincount(labels, covered * weight, count + 1) for weight in (1, rows + 0.5, columns + 0.5)
    )
    where = np.zeros(count + 1, int)
    where[labels] = frames
    found: list[list[_Blob]] = [[] for _ in layer]
    for k in np.flatnonzero(areas >= SPECK):
        area = areas[k]
        found[where[k]].append(_Blob((int(k),), row_sums[k] / area, column_sums[k] / area, area))
    return found


def _union(blobs: list[_Blob]) -> _Blob:
    area = sum(blob.area for blob in blobs)
    row, column = (sum(getattr(blob, x) * blob.area for blob in blobs) / area for x in ("row", "column"))
    return _Blob(tuple(label for blob in blobs for label in blob.labels), row, column, area)


def _follow(blobs: list[list[_Blob]], objects: int, apart: Bool[np.ndarray, "n"]) -> list[list[_Blob | None]]:
    """The blob of each object in each frame: those nearest to the last ones."""
    start = next(t for t, here in enumerate(blobs) if apart[t] and len(here) >= objects)
    chains: list[list[_Blob | None]] = [[None] * len(blobs) for _ in range(objects)]
    largest = sorted(blobs[start], key=lambda blob: -blob.area)[:objects]
    for frames in (range(start, len(blobs)), range(start - 1, -1, -1)):
        last = list(largest)
        for t in frames:
            steps = [[np.hypot(a.row - b.row, a.column - b.column) for b in blobs[t]] for a in last]
            for i, j in zip(*linear_sum_assignment(np.reshape(steps, (objects, -1))), strict=True):
                chains[i][t] = last[i] = blobs[t][j]
    return chains


def _track(
    k: int,
    chain: list[_Blob | None],
    pixels: Float[np.ndarray, "n h w 3"],
    layer: Float[np.ndarray, "n h w"],
    owners: Int[np.ndarray, "n h w"],
    apart: Bool[np.ndarray, "n"],
) -> _Track:
    """Its shape and colour are those in most of a few frames."""
    complete = apart & np.array([blob is not None for blob in chain])
    whole = np.flatnonzero(complete)
    shapes, cores = [], []
    for t in whole[np.unique(np.linspace(0, len(whole) - 1, LOOKS).round().astype(int))]:
        covered = np.where(np.isin(owners[t], chain[t].labels), layer[t], 0)
        shapes.append(fit(covered)[0])
        cores.append(pixels[t][covered >= 0.85 * covered.max()])
    shape, times = Counter(shapes).most_common(1)[0]
    places = np.array([(b.row, b.column, b.area) if b else (0.0, 0.0, 0.0) for b in chain])
    return _Track(
        layer=k,
        colour=name_colour(np.concatenate(cores), COLOURS),
        shape=shape if times >= SAME * len(shapes) else UNKNOWN,
        masses=places[:, :2],
        areas=places[:, 2],
        apart=complete,
        complete=complete,
    )


def _interpolated(values: Float[np.ndarray, "n"], known: Bool[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    frames = np.arange(len(values))
    return np.interp(frames, frames[known], values[known])


def _in_front(
    tracks: list[_Track], layers: Float[np.ndarray, "k n h w"]
) -> tuple[int | None, Bool[np.ndarray, "tracks n"]]:
    """The object in front of that which it overlaps most, and where each is seen as far as others allow.

    That is, half of what no other covers and is more than a speck.
    """
    drawn = {k: track.drawn() for k, track in enumerate(tracks) if not track.complete.all()}
    partly = np.zeros((len(tracks), layers.shape[1]), bool)
    for k, own in drawn.items():
        free = own * np.prod([1 - other for j, other in drawn.items() if j != k], axis=0)
        expected, found = free.sum((1, 2)), np.minimum(free, layers[tracks[k].layer]).sum((1, 2))
        partly[k] = found >= (expected - SPECK) / 2
    front, most = None, OVERLAP
    for i, j in itertools.combinations(drawn, 2):
        overlap = drawn[i] * drawn[j]
        seen = [float((overlap * layers[tracks[k].layer]).sum()) for k in (i, j)]
        if overlap.sum() >= most and max(seen) >= IN_FRONT * sum(seen) and tracks[i].layer != tracks[j].layer:
            front, most = (i, j)[int(np.argmax(seen))], float(overlap.sum())
    return front, partly


def _object(track: _Track, seen: float) -> MovingObject:
    """What moves in one of the known ways is seen on its path in most frames, `seen` as a fraction."""
    centres, radii = track.centres(), track.radii()
    times = np.flatnonzero(track.complete)
    rate, radius, swell = line(np.flatnonzero(track.apart), radii[track.apart])
    last = radius + rate * (len(radii) - 1)
    growth = last / radius if min(last, radius) > 0 else np.inf
    steady = swell <= SWELL and 1 / GROWTH[0] <= growth <= GROWTH[0]
    size: str | None = UNKNOWN
    best = Fit(np.inf, UNKNOWN, None, None)
    known = motions(times, centres[times], float(np.median(radii))) if seen >= SAME else ()
    fits = [fit for fit in known if fit.distance <= STRAY]
    if fits and steady:
        best = min(fits)
    elif (
        swell <= SWELL and not 1 / GROWTH[1] < growth < GROWTH[1] and any(f.motion == "stands" for f in fits)
    ):
        best, size = Fit(0.0, "grows" if growth > 1 else "shrinks", None, None), None
    if steady:
        size = between(SIZE_LIMITS, float(np.median(radii)))
    path = tuple((row, column) for row, column in centres.tolist())
    return MovingObject(
        track.shape, track.colour, size, best.motion, best.direction, best.speed, path, tuple(radii.tolist())
    )
