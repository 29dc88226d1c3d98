import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.report import plots
from jaxflow.evaluation.intervals import Interval, Measured
from jaxflow.runs.settings import Setting, scale_name

ROOT = Path(__file__).parents[2]
ODD = [
    "$x_1$",
    "100 $",
    "a\nb",
    "\u65e5\u672c",
    "\U0001f600",
    "e\u0301",
    "\x07bell",
    "\udcff",
    "x" * 1000,
    "",
]


def images(rows, n, channels=3, side=4):
    return np.random.default_rng(0).integers(0, 256, (rows * n, side, side, channels), np.uint8)


@pytest.mark.parametrize(
    ("rows", "n", "panels"), [(11, 10, 4), (1001, 10, 4), (3001, 10, 1), (11, 10, 250), (2, 1, 1)]
)
def test_pages_that_fit_have_bounded_pixels(rows, n, panels):
    plots.check_page(rows, n, panels)
    dots = plots._dots(rows, n, panels)
    width, height = plots.PANEL * panels + 1.8, plots.PANEL * rows / min(n, 10) + plots.HEAD
    assert dots * max(width, height) < 2**16
    assert dots**2 * width * height < 41_000_000


@pytest.mark.parametrize(
    ("rows", "n", "panels"), [(3001, 1, 4), (10**5, 10, 1), (11, 10, 10**4), (10**9, 10**9, 1)]
)
def test_pages_that_do_not_fit_are_one_line_with_the_limit(rows, n, panels):
    with pytest.raises(ValueError, match=r"at most \d+ rows with \d+ scales: choose fewer --labels"):
        plots.check_page(rows, n, panels)
    with pytest.raises(ValueError, match="too large"):
        plots.check_page(11, 1, 10**6)


def test_scales_that_differ_have_different_names():
    scales = [1.0, 1.000001, 1.000002, 123456.7, 123456.8, 1e-300, 0.1 + 0.2, 0.3, -1.0]
    names = [scale_name(w) for w in scales]
    assert len(set(names)) == len(names)
    assert [float(name) for name in names] == scales


def test_names_of_rows_are_text_and_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        panels = {Setting(w): images(len(ODD), 2) for w in (1.0, 2.0)}
        plots.guidance_grid(panels, ODD, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        assert min(picture.size) > 200


def test_characters_are_drawn_by_the_first_font_that_has_them():
    latin, chinese, korean = (
        ("latin", range(128)),
        ("chinese", {0x65E5, 0x672C, 0xFF0C}),
        ("korean", {0xD55C}),
    )
    assert plots.chosen("a日本", (latin, korean, chinese)) == (["latin", "chinese"], "")
    assert plots.chosen("日", (latin, chinese, ("another", {0x65E5}))) == (["chinese"], "")
    assert plots.chosen("한日かい", (latin, chinese, korean)) == (["chinese", "korean"], "いか")


def test_texts_take_the_fonts_that_have_them_and_others_stay(tmp_path, monkeypatch, capsys):
    """Of the fonts that matplotlib brings, only STIXGeneral of these has a fraktur h; none has Chinese."""
    monkeypatch.setattr(plots, "_installed", lambda: ["cmr10", "STIXGeneral"])
    monkeypatch.setattr(plots, "_reported", False)
    figure = plots._figure(2, 1)
    texts = [figure.text(0, 0.5, text) for text in ("plain", "\U0001d525 x", "日")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.save(figure, tmp_path / "1.png")
        plots.save(figure, tmp_path / "2.png")
    own = texts[0].get_fontfamily()
    assert [text.get_fontfamily()[len(own) :] for text in texts] == [[], ["STIXGeneral"], ["STIXGeneral"]]
    (line,) = capsys.readouterr().err.splitlines()
    assert "has 日, drawn as boxes; for Chinese" in line


def test_many_curves_are_drawn_with_a_short_legend(tmp_path):
    figures = {"frechet": 1.0, "recall": float("nan")}
    rows = [
        {"rule": f"rule {i % 9}", "w": w, "sigma": 0.1 * (i // 9)} | figures
        for i in range(90)
        for w in (1.0, 2.0)
    ]
    plots.rules_over_w(rows, figures, "real", tmp_path / "sweep.png")
    with Image.open(tmp_path / "sweep.png") as picture:
        assert picture.size == (1500, 840)


def test_curves_of_figures_that_are_not_finite(tmp_path):
    figures = Measured(
        {"accuracy": float("nan"), "frechet": 1.0, "recall": 0.5}, {"recall": Interval(0.4, 0.6)}
    )
    plots.curves_over_w([Setting(1.0)], [figures], figures, "real", tmp_path / "evaluation.png")
    assert (tmp_path / "evaluation.png").stat().st_size > 1000


def test_a_map_has_a_row_of_panels_for_each_number_of_calls(tmp_path):
    settings = [Setting(w, calls) for calls in (1, 2) for w in (1.0, 2.0)]
    rows = [{"all": 0.5, "binding": 1.0}] * 4
    plots.alignment_over_w(
        settings, {"seen": rows, "held out": rows}, ("all", "binding"), tmp_path / "map.png"
    )
    plots.alignment_over_w(settings[:2], {"seen": rows[:2]}, ("all", "binding"), tmp_path / "one.png")
    heights = [Image.open(tmp_path / f"{name}.png").height for name in ("map", "one")]
    assert heights == [1050, 600]


def test_a_backend_of_jupyter_does_not_matter(tmp_path):
    code = (
        "import sys, numpy as np; from pathlib import Path; import experiments.figures.style;"
        "import experiments.report.contact_sheet; from experiments.report.plots import guidance_grid;"
        "from jaxflow.runs.settings import Setting; images = np.zeros((4, 4, 4, 1), np.uint8);"
        "guidance_grid({Setting(1.0): images}, ['a', 'b'], Path(sys.argv[1]))"
    )
    env = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    command = [sys.executable, "-c", code, str(tmp_path / "grid.png")]
    subprocess.run(command, check=True, cwd=ROOT, env=env)
    assert (tmp_path / "grid.png").exists()
