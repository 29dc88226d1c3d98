"""What `evaluate` and `sweep` check before they read or compile anything."""

import dataclasses
from types import SimpleNamespace

import pytest

from experiments import evaluate, sweep
from experiments.report import quality
from jaxflow.data.codecs import Captions, Classes
from jaxflow.runs.settings import scale_name

HUGE = 10**9


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"w": ()}, "w = "),
        ({"w": (1.0,) * 250}, "number of --w = 250: must be at most 100"),
        ({"per_label": 0}, "per_label = 0"),
        ({"captions": HUGE}, "captions = 1000000000: must be at most"),
        ({"judge_steps": HUGE}, "judge_steps = 1000000000: must be at most"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_evaluate_rejects_options_out_of_range(options, says):
    with pytest.raises(ValueError, match=says):
        evaluate.check(evaluate.Arguments(model="run", **options))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sigma": ()}, "sigma = "),
        ({"w": tuple(range(250))}, "number of --w = 250: must be at most 100"),
        ({"sigma": (0.5,) * 101}, "number of --sigma = 101"),
        ({"rules": ("increasing",) * 200}, "number of --rules = 200"),
        ({"w": (1.0, 2.0), "chunk": HUGE}, "chunk = 1000000000: must be at most 2"),
        ({"judge_steps": HUGE}, "judge_steps = 1000000000: must be at most"),
        ({"sigma": (-1.0,)}, "sigma = -1"),
    ],
)
def test_sweep_rejects_options_out_of_range(options, says):
    with pytest.raises(ValueError, match=says):
        sweep.check(sweep.Arguments(model="run", **options))


@dataclasses.dataclass
class Space:
    image_shape: tuple = (8, 8, 1)


@dataclasses.dataclass
class Model:
    classes: tuple = ("a", "b")
    space: Space = dataclasses.field(default_factory=Space)


@dataclasses.dataclass
class Opened:
    model: Model = dataclasses.field(default_factory=Model)


@pytest.mark.parametrize(
    ("codec", "unread", "conditions"),
    [
        (Classes(("a", "b")), "captions", "classes"),
        (Captions(("a",), 16), "per_label", "captions"),
    ],
)
def test_an_option_of_other_conditions_is_said_to_have_no_effect(codec, unread, conditions):
    arguments = evaluate.Arguments(model="run")
    assert not list(evaluate.without_effect(arguments, codec))
    (line,) = evaluate.without_effect(dataclasses.replace(arguments, **{unread: 7}), codec)
    option = unread.replace("_", "-")
    assert line == f"--{option} has no effect: the model was trained on {conditions}"


def test_more_images_than_fit_the_memory_are_rejected():
    with pytest.raises(ValueError, match="per_label x classes = 1000000000 x 2 images take"):
        evaluate.check_images(Opened(), HUGE)
    with pytest.raises(ValueError, match="per_label x classes x w x sigma"):
        sweep.check_images(sweep.Arguments(model="run", per_label=HUGE), Opened())


@pytest.mark.parametrize(
    ("dataset", "shape", "says"),
    [
        ("shapes", (32, 32, 3), "features = 'nowhere': the figures of shapes need no features"),
        ("moving_shapes", (16, 32, 32, 3), "channels, not 16 x 32 x 32 x 3; omit --features"),
        ("folder", (32, 32, 4), "channels, not 32 x 32 x 4; omit --features"),
        ("digits", (8, 8, 1), "features = 'nowhere' does not exist: put the network there"),
    ],
)
def test_features_are_rejected_before_the_data_are_read(dataset, shape, says):
    run = SimpleNamespace(experiment=SimpleNamespace(dataset=dataset))
    model = SimpleNamespace(space=Space(shape))
    opened = SimpleNamespace(
        run=run, model=model, placement=SimpleNamespace(examples=None)
    )  # without `split`
    arguments = evaluate.Arguments(model="run", features="nowhere")
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        evaluate.report_of("out", opened, arguments, [], {})


def test_settings_that_print_alike_with_six_digits_are_told_apart():
    rows = [{"rule": "increasing", "w": w, "sigma": 0.0} for w in (1.000001, 1.000002)]
    assert len({sweep.setting(row) for row in rows}) == 2
    assert scale_name(1.000001) in sweep.setting(rows[0])


def test_a_rule_given_twice_is_swept_once():
    arguments = sweep.Arguments(model="run", rules=("increasing", "rescaled", "increasing"))
    samplers = lambda sampler, calls: {None: sampler}  # noqa: E731
    model = SimpleNamespace(trained=None, worse=None, model=SimpleNamespace(outputs=None), samplers=samplers)
    assert [how.rule for how in sweep.hows_of(arguments, model)] == ["increasing", "rescaled"]


def test_the_columns_of_a_sweep_are_those_of_its_figures():
    assert quality.COLUMNS == ("accuracy", "frechet", "frechet pixels", "precision", "recall", "nearest")
