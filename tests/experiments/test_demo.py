"""The page to play on: its function, the page as served, and, where Chromium is installed, in a browser."""

import base64
import io
import re
import shutil
import socket
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from conftest import Lazy, compiling_nothing, disturbed
from PIL import Image, ImageSequence

from experiments import demo
from experiments.drawing import Drawing, Wish
from experiments.opening import Source, open_model
from experiments.presets import digits
from experiments.report import page
from jaxflow import nn, per_example, spaces
from jaxflow.data.codecs import Captions, Classes
from jaxflow.data.strips import mosaic
from jaxflow.devices import mesh
from jaxflow.runs import folder
from jaxflow.runs.configuration import fitted
from jaxflow.runs.generation import Generator
from jaxflow.runs.requests import keys_of, request
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import Sampler

gradio_client, playwright = Lazy("gradio_client"), Lazy("playwright.sync_api")

CODEC = Captions(("a", "red", "blue", "circle"), 4)
RULE, SOLVER, STEPS = "classifier_free", "euler", 2
IMAGES = 4


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A model of captions that was never trained."""
    network = digits.experiment().network.clone(width=16, depth=1, heads=2)
    run = Run(
        fitted(replace(digits.experiment(), network=network), CODEC), "", spaces.Pixels((8, 8, 1)), CODEC
    )
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), run.shapes)
    place = tmp_path_factory.mktemp("demo") / "model.safetensors"
    folder.export(place, run, disturbed(zeros, 0.3), 1200)
    return place


@pytest.fixture(scope="module")
def drawing(file):
    return demo.drawing_of(open_model(file, Source()).read(), IMAGES)


@pytest.fixture(scope="module")
def url(drawing):
    """The page, served."""
    gradio = demo.imported()
    blocks = demo.page(gradio, "demo", drawing, live=True)
    yield demo.serve(gradio, blocks, inbrowser=False)
    blocks.close(verbose=False)


@pytest.fixture
def connections(monkeypatch):
    """Hosts that this process connects to."""
    hosts, connect = [], socket.socket.connect
    monkeypatch.setattr(
        socket.socket, "connect", lambda self, address: hosts.append(address[0]) or connect(self, address)
    )
    return hosts


def draw(drawing, said="a red circle", w=2.0, seed=0, *, several=False, film=False):
    """Pictures of the page's function by their captions."""
    shown, how = demo.drawn(drawing)(said, w, RULE, SOLVER, STEPS, seed, several, film)
    assert re.fullmatch(r"\d+\.\d\d s, with compilation", how)
    return pictures(shown)


def pictures(shown):
    """Frames, (f, h, w, c), by the captions of the HTML."""
    found = re.findall(r'alt="(.*?)" .*? src="data:image/\w+;base64,(.*?)"', shown)
    decoded = {caption: Image.open(io.BytesIO(base64.b64decode(content))) for caption, content in found}
    return {
        caption: np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])
        for caption, image in decoded.items()
    }


def test_one_program_draws_every_prompt_scale_and_seed(drawing):
    several = draw(drawing, several=True)
    filmed = draw(drawing, film=True)
    with compiling_nothing():
        others = [draw(drawing, **other) for other in ({"w": 0.0}, {"w": 5.0}, {"said": "blue"}, {"seed": 1})]
        assert draw(drawing, several=True).keys() == several.keys()
    first = filmed["w = 2"]
    assert [*several] == [f"w = {w}" for w in range(7)]
    for (picture,) in (other.values() for other in others):
        assert (picture != first).any()
    columns = mosaic(np.zeros((IMAGES, 1, 8, 8, 1), np.uint8), 1).shape
    assert several["w = 2"].shape == (1, *columns[1:3], 3)
    for name in (0, 2, 5):  # the same images by the other program, in one column
        alone = draw(drawing, w=float(name))[f"w = {name}"][0, ..., 0].astype(int)
        tiles = np.stack([alone[10 * i : 10 * i + 8, 10 * j : 10 * j + 8] for i in (0, 1) for j in (0, 1)])
        swept = several[f"w = {name}"][0, ..., 0].astype(int)
        assert np.abs(swept[np.add.outer(10 * np.arange(4), np.arange(8))] - tiles).max() <= 1


def test_the_film_leads_from_the_noise_to_the_picture(drawing):
    filmed = draw(drawing, film=True)
    picture, film = filmed.values()
    keys = keys_of(0, request(CODEC, ["a red circle"] * IMAGES))
    noise = drawing.model.to_images(per_example.normal(keys, (8, 8, 1)))
    first = mosaic(np.asarray(noise)[:, None], 2)
    np.testing.assert_array_equal(film[0], np.broadcast_to(first[0], film[0].shape))
    assert len(film) > STEPS
    assert (film[1] != film[0]).any()
    for last in film[STEPS:]:
        np.testing.assert_array_equal(last, picture[0])


@pytest.mark.usefixtures("standard_promotion")
def test_a_map_jumps_at_the_scales_that_it_has_learned():
    network = nn.DiT(None, patch=4, width=8, depth=1, heads=2, time="fourier")
    options = {"network": network, "objective": "improved_mean_flow", "w_most": 4.0}
    codec = Classes(("zero", "one"))
    run = Run(fitted(replace(digits.experiment(), **options), codec), "", spaces.Pixels((4, 4, 1)), codec)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), run.shapes)
    model, here = run.model(disturbed(zeros, 0.3)), mesh.on_one_device()
    of_map = Drawing(model, lambda sampler, rule: Generator(model, sampler, here, rule), 2)
    assert (of_map.rules, of_map.solvers, of_map.limits) == ([RULE], ["jump"], (1.0, 4.0))
    wish = Wish(0, 3.0, RULE, Sampler(2, "jump"), 0)
    several, alone = pictures(of_map.pictures(wish)), pictures(of_map.picture(wish, film=False))
    assert [*several] == ["w = 1", "w = 2", "w = 3", "w = 4"]
    swept, one = several["w = 3"][0].astype(int), alone["w = 3"][0].astype(int)
    assert np.abs(swept[[0, 1, 2, 3]] - one[:, :4]).max() <= 1
    assert (several["w = 4"] != several["w = 3"]).any()
    with pytest.raises(ValueError, match="w = 5: must be 0, or from 1 to 4"):
        of_map.picture(wish._replace(w=5.0), film=False)


@pytest.mark.parametrize(
    ("control", "value", "says"),
    [
        ("said", "a green circle", "error: prompt"),
        ("w", float("nan"), "error: w = nan"),
        ("seed", -1, "error: seed = -1"),
        ("seed", None, "error: seed = None"),
        ("rule", "magic", "error: rule = 'magic'"),
        ("solver", "magic", "error: solver = 'magic'"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_on_the_page(drawing, control, value, says):
    controls = {"said": "a red circle", "w": 2.0, "rule": RULE, "solver": SOLVER, "steps": STEPS, "seed": 0}
    with compiling_nothing():
        shown, how = demo.drawn(drawing)(**controls | {control: value}, several=False, film=False)
    assert shown == ""
    assert how.startswith(says)
    assert "\n" not in how


def test_without_gradio_or_a_free_port_it_is_one_line(file, capsys, monkeypatch):
    with socket.socket() as taken:
        taken.bind((demo.HOST, 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit, match="2"):
            demo.main([str(file), "--port", port])
    assert capsys.readouterr().err.startswith(f"error: port = {port}: Address already in use; choose another")
    with pytest.raises(SystemExit, match="2"):
        demo.main([str(file), "--images", "0"])
    assert capsys.readouterr().err.startswith("error: images = 0: must be at least 1")
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SystemExit, match="2"):
        demo.main([str(file)])
    assert capsys.readouterr().err == "error: the page needs gradio, an extra: pip install 'jaxflow[demo]'\n"


def test_the_page_is_served_to_this_machine_and_draws_as_its_function(connections, drawing, url):
    assert url.startswith(f"http://{demo.HOST}:")
    client = gradio_client.Client(url, verbose=False, analytics_enabled=False)
    wish = ("a red circle", 2.0, RULE, SOLVER, STEPS, 0, False, False)
    shown, how = client.predict(*wish, api_name="/draw")
    assert shown == demo.drawn(drawing)(*wish)[0]
    assert how.endswith("s, with compilation")
    shown, how = client.predict("a green circle", *wish[1:], api_name="/draw")
    assert (shown, how.startswith("error: prompt")) == ("", True)
    assert set(connections) <= {demo.HOST, "localhost"}


@pytest.fixture(scope="module")
def tab():
    """A tab of headless Chromium, which cannot reach a network."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


ANOTHER = "([where, old]) => (document.querySelector(where)?.src ?? old) != old"


def test_in_a_browser_a_prompt_and_the_slider_change_the_picture(tab, url, tmp_path):
    asked, image = [], "#shown img"
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(url)

    def shown_after(act):
        before = tab.locator(image).get_attribute("src", timeout=60_000)
        act()
        tab.wait_for_function(ANOTHER, arg=[image, before], timeout=60_000)
        return tab.locator("#shown figcaption").inner_text()

    def type_prompt():
        tab.get_by_label("prompt").fill("blue")
        tab.get_by_label("prompt").press("Enter")

    assert shown_after(type_prompt) == "w = 2"
    slider = tab.locator("input[type=range]").first
    assert shown_after(lambda: slider.press("ArrowRight")) == "w = 2.25"
    assert tab.locator("#how textarea").input_value().endswith(" s")
    assert {re.match(r"data:|blob:|http://[^/]*/", one)[0] for one in asked} <= {url, "data:", "blob:"}

    levels = [np.full((1, 8, 8, 1), level, np.uint8) for level in (0, 255)]
    page.write("sweep", {"rule": levels}, ["w = 1", "w = 2"], ["cat"], tmp_path / "sweep.html")
    tab.goto((tmp_path / "sweep.html").as_uri())
    before = tab.locator("img").get_attribute("src")
    tab.locator("input[type=range]").press("ArrowLeft")
    assert tab.locator("output").inner_text() == "w = 1"
    assert tab.locator("img").get_attribute("src") != before
