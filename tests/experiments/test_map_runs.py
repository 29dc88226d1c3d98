"""Flow maps end to end, in miniature: that of a trained field, with guidance inside; jumps by the scripts."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_digits

import jaxflow
from experiments import evaluate, export, sample, sweep, train
from jaxflow.nn.jumps import unguided

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("standard_promotion")]

MAP = (
    "--objective",
    "lagrangian",
    "--w-most",
    "4",
    "--steps",
    "2",
    "--warmup",
    "0",
    "--learning-rate",
    "1e-12",
)


def trained(out, data_dir, *options):
    numbers = list(small_digits.training(out, data_dir))
    del numbers[numbers.index("--steps") : numbers.index("--steps") + 2]
    train.main([*numbers, *MAP, *options])
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir, unbroken):
    out = tmp_path_factory.mktemp("maps") / "run"
    with jax.numpy_dtype_promotion("standard"):
        return trained(
            out, data_dir, "--distill", str(unbroken), "--sample-every", "2", "--checkpoint-every", "2"
        )


@pytest.mark.requirement("R71", "R72")
def test_a_map_starts_from_the_field_whose_map_it_becomes(run, unbroken):
    """After steps of nearly no length."""
    field, flow_map = jaxflow.load(unbroken), jaxflow.load(run)
    assert flow_map.is_map
    assert not field.is_map
    x, t, y = jnp.ones((2, 8, 8, 1)), jnp.array([0.1, 0.8]), jnp.array([3, 10])
    guidance = unguided(2)._replace(w=jnp.array([2.0, 4.0]))
    jumped = flow_map.average(x, t, jnp.ones(2), y, guidance)
    np.testing.assert_allclose(jumped, field.field(x, t, y), atol=1e-5)
    assert (run / "samples" / "step=2.png").exists()


def test_an_exported_map_jumps_alone_and_names_no_folder(run, unbroken, tmp_path):
    file = tmp_path / "map.safetensors"
    export.main([str(run), "--out", str(file)])
    for place in (run, unbroken):
        assert str(place.parent).encode() not in file.read_bytes()
    images = [jaxflow.load(place).sample(0, [3], w=3.0, calls=1) for place in (run, file)]
    np.testing.assert_array_equal(*images)


def test_scripts_jump(run, capsys):
    common = (str(run), "--parallel", "jit", "--calls", "1", "2")
    sample.main([*common, "--w", "0", "3", "--labels", "3", "--per-label", "2"])
    images = np.load(run / "samples/w=3-calls=1.npz")["images"]
    own = jaxflow.load(run).sample(0, [3, 3], w=3.0, calls=1)
    assert np.abs(images.astype(int) - own).max() <= 1
    judged = ("--per-label", "2", "--judge-steps", "2")
    evaluate.main([*common, "--w", "2", *judged])
    table = json.loads((run / "evaluation.json").read_text())["table"]
    assert (table["w"], table["calls"]) == ([2, 2], [1, 2])
    sweep.main([*common, "--w", "1", "2", *judged])
    rows = json.loads((run / "sweep.json").read_text())["settings"]
    assert [(row["w"], row["calls"]) for row in rows] == [(1, 1), (2, 1), (1, 2), (2, 2)]
    assert "--calls" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "options", "says"),
    [
        (sample, ["--w", "9"], "w = 9: must be 0, or from 1 to 4"),
        (sample, ["--w", "2", "--rule", "rescaled"], "rule = 'rescaled': a map jumps by the guidance inside"),
        (sweep, ["--w", "2", "--rules", "rescaled"], "rule = 'rescaled': a map jumps by the guidance inside"),
        (evaluate, ["--w", "2", "--calls", "0"], "calls = 0: must be at least 1"),
        (evaluate, ["--w", "2", "--calls", "2", "--solver", "heun"], "calls = 2: --solver has steps"),
        (sample, ["--w", "2", "--steps", "5"], "steps = 5: a flow map jumps, give --calls"),
    ],
)
def test_what_a_map_cannot_do_ends_the_scripts(run, script, options, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        script.main([str(run), *options])
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_only_a_field_is_distilled_into_a_map(run, unbroken, data_dir, tmp_path, capsys):
    for options, says in (
        (["--distill", str(run)], "it is a map, not a field"),
        (["--distill", str(tmp_path / "none")], "does not exist"),
        (["--objective", "field", "--w-most", "2"], "w_most = 2.0: of maps"),
    ):
        with pytest.raises(SystemExit) as stopped:
            trained(tmp_path / "run", data_dir, *options)
        assert stopped.value.code == 2
        assert says in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
