"""The scripts' figures: grids of samples, and curves over w.

They are drawn with `matplotlib.figure.Figure` alone, which opens no window, and lettered in fonts of the
machine that have their characters, since matplotlib's own has no Chinese, Japanese or Korean.
"""

import bisect
import math
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import numpy as np

from jaxflow import progress
from jaxflow.data.names import display_width, shown, wrapped
from jaxflow.data.strips import film_strip
from jaxflow.evaluation.intervals import Measured
from jaxflow.places import Place
from jaxflow.runs.settings import Setting, called, scale_name
from jaxflow.training.files import atomic_write

MOST_COLUMNS = 10
"""Images of a label that a panel shows."""
MOST_FRAMES = 8
"""Frames of a clip, of which a panel shows one of a label, as a strip."""
PANELS = 4
"""Panels of curves beside each other."""
Row = TypeVar("Row")
PANEL, HEAD = 3.2, 0.5
"""Width of a panel, and height of its title, in inches."""
DOTS = (40, 150)
"""Fewest and most dots per inch: on large pages images and letters become smaller."""
SIDE, AREA = 2**16 - 1, 40_000_000
"""Most pixels on a side of a page, which is matplotlib's limit, and on all of it."""
MOST_CURVES = 24
"""Most curves in a legend."""
NAME, LINES = 24, 3
"""Columns in a line of the name of a row, and its lines."""
EAST_ASIAN = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "PingFang SC"),
    *("Microsoft YaHei", "Hiragino Sans GB", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "SimHei"),
    *("Noto Sans CJK JP", "Noto Sans JP", "Source Han Sans", "Hiragino Sans", "Yu Gothic", "IPAexGothic"),
    *("Noto Sans CJK KR", "Noto Sans KR", "Apple SD Gothic Neo", "Malgun Gothic", "NanumGothic"),
    *("Droid Sans Fallback", "Arial Unicode MS"),
)
"""Fonts of Chinese, Japanese and Korean. The first that has a character draws it, so that those which all
three write have their Chinese shape."""
REMEDY = (
    "for Chinese, Japanese and Korean install fonts-noto-cjk (Debian, Ubuntu) or google-noto-sans-cjk-fonts"
    " (Fedora)"
)
_reported = False


def check_page(rows: int, columns: int, panels: int) -> None:
    """Check that a page of samples can be drawn, before anything is sampled.

    Args:
        rows: labels or prompts, with the unconditional one.
        columns: images of each.
        panels: guidance scales.

    Raises:
        ValueError: it would be too large.
    """
    if _dots(rows, columns, panels) < DOTS[0]:
        most = _most(rows, lambda n: _dots(n, columns, 1))
        scales = _most(panels, lambda n: _dots(most, columns, n))
        raise ValueError(
            f"a page of {panels} scales and {rows} rows of {min(columns, MOST_COLUMNS)} images is too large;"
            f" at most {most} rows with {scales} scales: choose fewer --labels, --prompt or --w"
        )


def guidance_grid(panels: dict[Setting, np.ndarray], row_names: Sequence[str], file: Place) -> None:
    """The chapter's figure: a panel per setting, a row per label.

    Args:
        panels: for each, uint8 images (rows * n, h, w, c), or clips, row after row.
        row_names: name of each row.
        file: PNG to write.

    Raises:
        ValueError: the page would be too large (`check_page`).
    """
    grid({f"w = {setting.name}": images for setting, images in panels.items()}, row_names, file)


def grid(panels: dict[str, np.ndarray], row_names: Sequence[str], file: Place) -> None:
    """The same with titles instead of scales."""
    rows, columns = len(row_names), len(next(iter(panels.values()))) // len(row_names)
    check_page(rows, columns, len(panels))
    mosaics = {title: mosaic(images, rows) for title, images in panels.items()}
    high, wide = next(iter(mosaics.values())).shape[:2]
    names = [_wrapped(name) for name in row_names]
    longest = max(display_width(line) for name in names for line in name.split("\n"))
    margin = 0.4 + 0.07 * longest
    size = (PANEL * len(mosaics) + margin, PANEL * high / wide + HEAD)
    figure = _figure(*size, dpi=_dots(rows, columns, len(panels)))
    figure.set_layout_engine("compressed")  # for axes of a fixed aspect
    axes = figure.subplots(1, len(mosaics), squeeze=False)[0]
    for ax, (title, tiles) in zip(axes, mosaics.items(), strict=True):
        ax.imshow(tiles, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set_title(title)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
    axes[0].set_yticks((np.arange(rows) + 0.5) * high / rows - 0.5, names, parse_math=False)
    axes[0].tick_params(length=0)
    save(figure, file)


def mosaic(images: np.ndarray, rows: int) -> np.ndarray:
    """Rows of images, or a strip of a clip in each, with white gaps between, uint8 (h, w) or (h, w, c)."""
    gap = max(1, images.shape[-3] // 8)
    if images.ndim == 5:
        images = strips(images[:: len(images) // rows])
    n, h, w, c = images.shape
    per_row = n // rows
    columns = min(per_row, MOST_COLUMNS)
    tiles = images.reshape(rows, per_row, h, w, c)[:, :columns]
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    mosaic = tiles.swapaxes(1, 2).reshape(rows * (h + gap), columns * (w + gap), c)
    return mosaic[..., 0] if c == 1 else mosaic


def strips(clips: np.ndarray) -> np.ndarray:
    """Film strips (n, h, w, c) of clips (n, frames, h, w, c): the first frame, the last and some between."""
    frames = clips.shape[1]
    chosen = np.linspace(0, frames - 1, min(frames, MOST_FRAMES)).round().astype(int)
    return np.stack([film_strip(clip[None, chosen]) for clip in clips])


def curves_over_w(
    settings: Sequence[Setting], rows: Sequence[Measured], real: Measured, label: str, file: Place
) -> None:
    """A panel for each figure: its curves over w with their intervals, and real images as a dashed line.

    Args:
        settings: a curve for each number of calls.
        rows: figures at each.
        real: figures of real images.
        label: of the dashed line.
        file: PNG to write.
    """
    high = -(-len(real.figures) // PANELS)
    figure = _figure(9, 1 + 2 * high)
    axes = figure.subplots(high, PANELS).ravel()
    for ax, name in zip(axes, real.figures, strict=False):
        for calls, points in _by_calls(settings, rows).items():
            scales, values = [s.w for s, _ in points], [row.figures[name] for _, row in points]
            (line,) = ax.plot(scales, values, marker="o", markersize=3, label=calls and called(calls))
            ends = np.array([row.intervals.get(name, (np.nan, np.nan)) for _, row in points])
            ax.vlines(scales, *ends.T, color=line.get_color(), linewidth=1)
        _finish(ax, name, real.figures[name], label)
    for ax in axes[len(real.figures) :]:
        ax.set_axis_off()
    axes[0].legend(frameon=False)
    save(figure, file)


def alignment_over_w(
    settings: Sequence[Setting],
    table: dict[str, list[dict[str, float]]],
    claims: Sequence[str],
    file: Place,
) -> None:
    """A panel for each split, with a curve over w for each kind of claim, and that of all together in black.

    `binding` has none: its share is of few images, and of different ones at each w. A map has a row of panels
    for each number of calls.
    """
    tables = {split: _by_calls(settings, rows) for split, rows in table.items()}
    several = list(next(iter(tables.values())))
    figure = _figure(9, 1 + 3 * len(several))
    axes = figure.subplots(len(several), len(table), sharey=True, squeeze=False)
    for row, calls in zip(axes, several, strict=True):
        for ax, (split, of_split) in zip(row, tables.items(), strict=True):
            points = of_split[calls]
            for i, name in enumerate(name for name in claims if name != "binding"):
                style = {"color": "black", "linewidth": 2.5} if name == "all" else {"color": f"C{i}"}
                shares = [figures.get(name, np.nan) for _, figures in points]
                ax.plot([s.w for s, _ in points], shares, marker="o", markersize=3, label=name, **style)
            ax.set_title(f"{split} combinations" + (f", {called(calls)}" if calls else ""))
            ax.set_xlabel("w")
            ax.set_ylim(0, 1.02)
        row[0].set_ylabel("share of true captions")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    save(figure, file)


def _by_calls(
    settings: Sequence[Setting], rows: Sequence[Row]
) -> dict[int | None, list[tuple[Setting, Row]]]:
    """Settings and their figures, for each number of calls."""
    curves: dict[int | None, list[tuple[Setting, Row]]] = {}
    for setting, row in zip(settings, rows, strict=True):
        curves.setdefault(setting.calls, []).append((setting, row))
    return curves


def curve_name(row: dict) -> str:
    """The rule of a setting; or its number of calls, if it is one of a flow map, which has one rule."""
    return called(row["calls"]) if "calls" in row else row["rule"]


def rules_over_w(rows: Sequence[dict], real: dict[str, float], label: str, file: Place) -> None:
    """A panel for each figure, with a curve over w for each guidance rule and sigma.

    Args:
        rows: settings, each with its rule, w, sigma and figures; of a map also its calls.
        real: figures of real images, a dashed line.
        label: of the dashed line.
        file: PNG to write.
    """
    figure = _figure(10, 5.6)
    axes = figure.subplots(2, -(-len(real) // 2)).ravel()
    curves: dict[tuple[str, float], list[dict]] = {}
    for row in rows:
        curves.setdefault((curve_name(row), row["sigma"]), []).append(row)
    several = len({sigma for _, sigma in curves}) > 1
    for ax, name in zip(axes, real, strict=False):
        for (rule, sigma), points in curves.items():
            setting = f"{rule}, sigma {scale_name(sigma)}" if several else rule
            scales, values = [p["w"] for p in points], [p[name] for p in points]
            ax.plot(scales, values, marker="o", markersize=3, label=setting)
        _finish(ax, name, real[name], label)
    for ax in axes[len(real) :]:
        ax.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    if len(curves) > MOST_CURVES:
        handles = [*handles[:MOST_CURVES], handles[-1]]
        labels = [*labels[:MOST_CURVES], f"{labels[-1]}\n({len(curves) - MOST_CURVES} more curves)"]
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    save(figure, file)


def figures_over_minutes(rows: Sequence[dict], names: Sequence[str], preset: str, file: Place) -> None:
    """A panel for each figure, with a curve over the minutes of training for each variant and w.

    Args:
        rows: variants, each with its minutes, w, and mean and deviation of its figures over the seeds.
        names: of the figures.
        preset: name of the variant without options.
        file: PNG to write.
    """
    figure = _figure(1 + 2.6 * len(names), 3)
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    curves: dict[str, list[dict]] = {}
    for row in rows:
        curves.setdefault(f"{row['variant'] or preset}, w = {scale_name(row['w'])}", []).append(row)
    for ax, name in zip(axes, names, strict=True):
        for curve, points in curves.items():
            minutes, mean = [p["minutes"] for p in points], [p["mean"][name] for p in points]
            spread = [p["deviation"].get(name, 0.0) for p in points]
            ax.errorbar(minutes, mean, spread, marker="o", markersize=3, linewidth=1, label=curve)
        ax.set(title=name, xlabel="minutes of training", xscale="log")
        ax.set_xticks(sorted({row["minutes"] for row in rows}), minor=False)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")
        if name.startswith("frechet"):
            ax.set_yscale("log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    save(figure, file)


def _finish(ax: Any, name: str, real: float, label: str) -> None:
    ax.axhline(real, linestyle="--", linewidth=1, color="gray", label=label)
    if name.startswith("frechet"):
        ax.set_yscale("log")
    ax.set_title(name)
    ax.set_xlabel("w")


def _most(number: int, dots: Callable[[int], float]) -> int:
    """The largest number with enough dots per inch."""
    return bisect.bisect_left(range(1, number + 1), True, key=lambda n: dots(n) < DOTS[0])


def _dots(rows: int, columns: int, panels: int) -> float:
    """Dots per inch at which a page of samples stays within bounds."""
    width = PANEL * panels + 2.1
    height = PANEL * rows / min(columns, MOST_COLUMNS) + HEAD
    return min(DOTS[1], SIDE / max(width, height), math.sqrt(AREA / (width * height)))


def _wrapped(name: str) -> str:
    return "\n".join(wrapped(shown(" ".join(name.split()), 200), NAME, LINES))


def _figure(width: float, height: float, dpi: float = DOTS[1]) -> Any:
    # Imported only when something is drawn: it takes half a second.
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    return Figure(figsize=(width, height), layout="constrained", dpi=dpi)


def save(figure: Any, file: Place) -> None:
    """Write a figure as PNG, in fonts that have its characters; those that none has are named in one line."""
    _choose_fonts(figure)
    with warnings.catch_warnings(), atomic_write(file) as stream:
        warnings.filterwarnings("ignore", "Glyph")  # characters that no font has become boxes
        figure.savefig(stream, format="png")


def chosen(signs: Iterable[str], fonts: Iterable[tuple[str, Collection[int]]]) -> tuple[list[str], str]:
    """The first fonts that together have all characters that any has, and the characters that none has.

    Args:
        signs: characters.
        fonts: names with the code points that each has, the preferred first.
    """
    names, lacking = [], set(signs)
    for name, points in fonts:
        if found := {sign for sign in lacking if ord(sign) in points}:
            names.append(name)
            lacking -= found
        if not lacking:
            break
    return names, "".join(sorted(lacking))


def _choose_fonts(figure: Any) -> None:
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if not text.get_text().isascii()]
    signs = set("".join(text.get_text() for text in texts)) - {"\n"}
    if not signs:
        return
    own = texts[0].get_fontfamily()
    names, lacking = chosen(signs, ((name, _points(name)) for name in (*own, *_installed())))
    for text in texts:
        text.set_fontfamily([*own, *(name for name in names if name not in own)])
    if lacking:
        _report_once(lacking)


def _report_once(lacking: str) -> None:
    global _reported
    if not _reported:
        progress.say(f"note: no font that was found has {shown(lacking, 15)}, drawn as boxes; {REMEDY}")
    _reported = True


@cache
def _installed() -> list[str]:
    """The fonts of `EAST_ASIAN` that this machine has."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    known = {entry.fname for entry in manager.ttflist}
    for file in set(font_manager.findSystemFonts()) - known:  # installed since matplotlib made its list
        with suppress(Exception):  # of a file that it cannot read
            manager.addfont(file)
    names = {entry.name for entry in manager.ttflist}
    return [name for name in EAST_ASIAN if name in names]


@cache
def _points(name: str) -> frozenset[int]:
    from matplotlib import font_manager

    file = font_manager.findfont(font_manager.FontProperties(family=[name]))
    return frozenset(font_manager.get_font(file).get_charmap())
