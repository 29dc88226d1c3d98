import functools
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_expected
from PIL import Image
from scipy.special import ndtr

from experiments.figures import __main__ as figures
from experiments.figures import bridge, classifier, fields, guidance, path, sampling
from jaxflow import mixtures, times

ROOT = Path(__file__).parents[2]
LONG = dict.fromkeys(("sampling", "guidance", "bridge"), pytest.mark.optimized)  # to compute, not to compile


@pytest.fixture(scope="module", autouse=True)
def _computed_once():
    """For a figure and for the test of what it shows."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((sampling, "trajectories"), (guidance, "guided"), (guidance, "tilted")):
            patch.setattr(module, name, functools.cache(getattr(module, name)))
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=LONG.get(name, ())) for name in figures.FIGURES])
def test_each_figure_is_drawn_with_its_caption_of_one_sentence(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bridge, "N", 250)  # as in the test of its ends: one program for both
    caption = figures.FIGURES[name].CAPTION
    assert caption.endswith(".")
    assert ". " not in caption
    figures.main([name, "--out", str(tmp_path / "figure.png")])
    assert caption in capsys.readouterr().out
    with Image.open(tmp_path / "figure.png") as picture:
        assert min(picture.size) > 300
        assert np.asarray(picture.convert("L")).std() > 10


def test_unknown_figure_is_one_line_and_exit_code_2():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.figures", "magic"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: NAME = 'magic': must be one of path, fields, sampling, guidance, classifier, bridge, all"
    )


@pytest.mark.parametrize("out", ["figure.docx", "figure", "taken/figure.png"])
def test_bad_out_is_one_line_and_exit_code_2_before_anything_is_drawn(out, tmp_path, capsys):
    (tmp_path / "taken").touch()
    with pytest.raises(SystemExit, match="2"):
        figures.main(["path", "--out", str(tmp_path / out)])
    written = capsys.readouterr()
    assert written.err.startswith("error: ")
    assert written.err.count("\n") == 1
    assert written.out == ""


def test_the_path_to_one_data_point_is_straight():
    point, label = next(iter(path.rows().values()))
    noise = jax.random.normal(jax.random.key(0), (8, 2))
    t = times.uniform(path.STEPS)[:, None, None]
    x = path.carry(point, noise, jnp.array(label))
    assert_close(x, (1 - t) * noise[None] + t * point.means[None], 1e-5)


def test_the_red_arrows_are_the_gradient_of_the_classifier():
    """On the linear path b = (1 - t) / t, which is 1 at t = 1/2."""
    x = jnp.asarray(fields.lattice(fields.REACH, 3))
    assert fields.T == 0.5

    def log_prob(x):
        return mixtures.class_log_prob(path.mixture(), fields.PATH, x[None], jnp.array([0.5]))[
            0, fields.LABEL
        ]

    climbing = jax.vmap(jax.grad(log_prob))(x)
    unguided, conditional, guided = fields.fields(x)
    assert_close(conditional - unguided, climbing, 1e-4)
    assert_close(guided - unguided, fields.W * climbing, 1e-4)


@pytest.mark.slow
@pytest.mark.optimized
def test_sde_and_ode_end_in_the_exact_distribution():
    """Kolmogorov's distance for n = 20,000 is over 0.0175 by chance once in 200,000 draws."""
    for x in sampling.trajectories()[:, -1]:
        assert sampling.distance(np.asarray(x)) < 0.0175


@pytest.mark.slow
@pytest.mark.optimized
def test_densities_have_mass_one_and_agree_only_at_w_0_and_1():
    """Of the guided samples, by change of variables, and tilted."""
    for label in guidance.CLASSES.values():
        for w, guided, tilted in zip(
            guidance.SCALES, guidance.guided(label), guidance.tilted(label), strict=True
        ):
            for law in (guided, tilted):
                assert_close(np.trapezoid(law.density, law.x), np.float64(1.0), 1e-3)
            equal = abs(guided.variance() - tilted.variance()) < 2e-3
            assert equal == (w in (0.0, 1.0))


@pytest.mark.slow
def test_the_exact_classifier_guides_as_classifier_free():
    free, with_classifier = classifier.trajectories(jax.random.normal(jax.random.key(0), (400, 2)))
    assert_close(with_classifier.pop("exact classifier"), free, 1e-4)
    for wrong in with_classifier.values():
        assert jnp.median(jnp.abs(wrong - free)[-1]) > 0.01


def test_the_bridge_begins_on_circles_and_the_board_has_its_squares():
    board = np.asarray(bridge.checkerboard().means)
    squares = {tuple(np.floor(mean + 2).astype(int)) for mean in board}
    assert squares == {(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0}
    radii = jnp.linalg.norm(bridge.circles().means, axis=1)
    assert set(np.round(np.asarray(radii), 4).tolist()) == {1.0, 2.0}


def dark(x):
    """Whether points are on the dark squares."""
    i, j = np.floor(np.asarray(x) + 2).T
    return ((i + j) % 2 == 0) & (np.abs(x) < 2).all(axis=1)


def share_of_dark(board):
    """The mass of these round Gaussians on the dark squares."""
    deviation = np.asarray(board.covariances)[0, 0, 0] ** 0.5
    inside = np.diff(ndtr((np.arange(-2, 3) - np.asarray(board.means)[..., None]) / deviation))
    squares = 1 - np.indices((4, 4)).sum(axis=0) % 2
    return np.einsum("ki,kj,ij->k", *inside.swapaxes(0, 1), squares).mean()


@pytest.mark.slow
@pytest.mark.optimized
def test_the_bridge_ends_on_the_dark_squares_as_often_as_the_data():
    noise, _ = mixtures.sample(jax.random.key(0), bridge.circles(), 250)
    ends = bridge.trajectories(noise)[-1]
    assert_expected(dark(ends).astype(float), share_of_dark(bridge.checkerboard()), 5)
