import errno
import logging
import os
import pkgutil
import shutil
import signal
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from forked import CONTEXT

from jaxflow.devices import mesh, parallel
from jaxflow.training import checkpoint, checksums, readback
from jaxflow.training.checkpoint import Checkpoints, _abstract, _parts
from jaxflow.training.step import TrainState, initial_state


def state(step: int, name: str = "w", width: int = 8) -> TrainState:
    start = initial_state({name: jnp.arange(float(width)) + step}, optax.adam(1e-3))
    return TrainState(jnp.array(step), start.params, {name: jnp.full(width, -1.0)}, start.optimizer)


def folders(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def two(tmp_path):
    """A folder with the checkpoints 3 and 7."""
    with Checkpoints(tmp_path) as checkpoints:
        for step in (3, 7):
            checkpoints.save(state(step))
    return tmp_path


def test_restores_every_bit_of_the_newest(two):
    with Checkpoints(two) as checkpoints:
        assert checkpoints.steps == [3, 7]
        chex.assert_trees_all_equal(checkpoints.restore(state(0)), state(7))
        abstract = jax.eval_shape(lambda: state(0).ema)
        chex.assert_trees_all_equal(checkpoints.restore_ema(abstract), (7, state(7).ema))


def test_an_empty_folder_has_none(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(state(0)) is None
        with pytest.raises(FileNotFoundError, match="has no checkpoint yet"):
            checkpoints.restore_ema(state(0).ema)


def test_restores_onto_other_devices(tmp_path):
    everywhere = mesh.replicated(mesh.over_examples())
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(jax.device_put(state(3), jax.devices()[0]))
    with Checkpoints(tmp_path) as checkpoints:
        layout = parallel.placement("data").shard(jax.eval_shape(lambda: state(0)))
        restored = checkpoints.restore(layout)
    assert restored.params["w"].sharding.is_equivalent_to(everywhere, 1)
    chex.assert_trees_all_equal(jax.device_get(restored), jax.device_get(state(3)))


def test_a_state_that_is_donated_after_the_save_is_saved_as_it_was(tmp_path):
    advance = jax.jit(lambda s: jax.tree.map(lambda leaf: leaf + 1, s), donate_argnums=0)
    now = state(0, width=1_000_000)
    with Checkpoints(tmp_path, keep=10) as checkpoints:
        for _ in range(3):
            now = advance(now)
            checkpoints.save(now)
            for _ in range(5):
                now = advance(now)
        checkpoints.wait()
        ema = jax.eval_shape(lambda: now.ema)
        for step in (13, 7, 1):
            assert checkpoints.steps[-1] == step
            assert jnp.all(checkpoints.restore_ema(ema)[1]["w"] == step - 1)
            (tmp_path / str(step)).rename(tmp_path / f"seen {step}")


def test_keeps_the_newest_two_and_the_best(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step, loss in enumerate([5.0, 1.0, float("nan"), 2.0, 3.0], start=1):
            checkpoints.save(state(step), loss)
    assert folders(tmp_path) == ["2", "4", "5"]


def damage(file, how):
    intact = file.read_bytes()
    if how == "deleted":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(intact[: len(intact) // 2])
    else:
        middle = len(intact) // 2
        file.write_bytes(bytes([*intact[:middle], intact[middle] ^ 1, *intact[middle + 1 :]]))


@pytest.mark.parametrize("how", ["deleted", "truncated", "one bit"])
def test_a_damaged_checkpoint_is_moved_aside_for_the_one_before(two, how):
    """Each file of a checkpoint in turn, sampling and training."""
    newest = two / "7"
    files = [path.relative_to(newest) for path in newest.rglob("*") if path.is_file()]
    assert len(files) > 10
    for file in files:
        intact = (newest / file).read_bytes()
        if not intact and how != "deleted":
            continue
        damage(newest / file, how)
        named = f".*{file.name}" if file.name != checksums.NAME else ""  # whose faults look like others'
        with Checkpoints(two) as checkpoints:
            if file.parts[0] == "training":  # which sampling does not need
                chex.assert_trees_all_equal(checkpoints.restore_ema(state(0).ema), (7, state(7).ema))
            else:
                with pytest.warns(UserWarning, match=rf"7 is damaged: {named}.*; skipped"):
                    chex.assert_trees_all_equal(checkpoints.restore_ema(state(0).ema), (3, state(3).ema))
            with pytest.warns(UserWarning, match=rf"7 is damaged: {named}.*; moved aside as 7.damaged"):
                chex.assert_trees_all_equal(checkpoints.restore(state(0)), state(3))
        assert folders(two) == ["3", "7.damaged"]
        (two / "7.damaged").rename(newest)
        (newest / file).write_bytes(intact)
    with Checkpoints(two) as checkpoints:
        chex.assert_trees_all_equal(checkpoints.restore(state(0)), state(7))


def test_sampling_reads_nothing_of_the_training(two, monkeypatch):
    read, hashed = checksums._hash, []
    monkeypatch.setattr(checksums, "_hash", lambda file: hashed.append(file) or read(file))
    with Checkpoints(two) as checkpoints:
        for _ in range(2):  # and the second time there is nothing to be read
            chex.assert_trees_all_equal(checkpoints.restore_ema(state(0).ema), (7, state(7).ema))
            parts = {file.relative_to(two).parts[:2] for file in hashed}
            assert {("7", "ema"), ("7", "contents.json")} < parts
            assert ("7", "training") not in parts
            shutil.rmtree(two / "7" / "training", ignore_errors=True)


NAMES = [
    "lr [1e-3]",
    "a*b",
    "which?",
    "a\\b",
    "~",
    " 100 % #1&2;",
    "cafe\u0301 \U0001f600",
    "n" * 247,
    "-'\"",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_written_and_read_under_any_name(tmp_path, name):
    with Checkpoints(tmp_path / name) as checkpoints:
        assert checkpoints.restore(state(0)) is None
        checkpoints.save(state(3))
    with Checkpoints(tmp_path / name) as checkpoints:
        chex.assert_trees_all_equal(checkpoints.restore(state(0)), state(3))
        chex.assert_trees_all_equal(checkpoints.restore_ema(state(0).ema), (3, state(3).ema))
    assert folders(tmp_path) == [name, f"{name}.written"]


def test_a_misread_path_is_rejected_where_no_link_helps(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match=r"a path with any of \* \? \[ \\ works only in one process"):
        Checkpoints(tmp_path / "a[1]").restore(state(0))
    assert folders(tmp_path) == []


def test_a_run_is_read_wherever_it_was_moved(two):
    moved = two.rename(two.with_name("finished [1], 100 % *?"))
    with Checkpoints(moved) as checkpoints:
        chex.assert_trees_all_equal(checkpoints.restore_ema(state(0).ema), (7, state(7).ema))


def test_a_checkpoint_that_is_read_back_otherwise_is_not_complete(two, monkeypatch):
    checkpoints = Checkpoints(two)
    monkeypatch.setattr(
        checkpoint, "_load_some", lambda folder, like, chosen: jax.tree.leaves(_parts(state(8)))
    )
    checkpoints.save(state(9))
    with pytest.raises(OSError, match=r"intact: read back, training/params/w is not what was saved"):
        checkpoints.wait()
    assert checkpoints.steps == [3, 7]


def test_a_checkpoint_is_complete_once_all_processes_have_read_it_back(two, monkeypatch):
    """A process whose check fails never reaches the barrier."""
    done = []
    monkeypatch.setattr(readback, "check", lambda *_: done.append("read back"))

    def wait_for_all(name):
        done.append(name)
        raise RuntimeError("timeout")

    monkeypatch.setattr(checkpoint, "_wait_for_all", wait_for_all)
    checkpoints = Checkpoints(two)
    checkpoints.save(state(9))
    with pytest.raises(OSError, match="timeout"):
        checkpoints.wait()
    assert done == ["read back", "step 9 is read back"]
    assert checkpoints.steps == [3, 7]


def test_fingerprints_do_not_depend_on_shardings_and_notice_any_bit(monkeypatch):
    monkeypatch.setattr(readback, "LIMIT", 1000)  # several groups
    tree = [jnp.arange(64.0).reshape(8, 8), jnp.ones(300, jnp.bfloat16), jnp.array(3), jnp.zeros((0, 2))]
    tree.append(jax.device_put(tree[0], mesh.over_examples()))
    expected = readback.fingerprints(tree)
    like = jax.tree.map(_abstract, tree)
    asked = []

    def load(chosen, change=None):
        asked.append(chosen)
        read = [np.array(leaf) for leaf in tree]
        if change is not None:
            read[change].reshape(-1).view(np.uint8)[-1] ^= 1
        return read

    readback.check(load, like, expected)
    assert np.sum(asked, axis=0).tolist() == [1] * 5
    assert len(asked) > 1
    for change in (0, 1, 2, 4):
        with pytest.raises(ValueError, match=f"read back, {change} is not what was saved"):
            readback.check(partial(load, change=change), like, expected)


def test_orbax_leaves_its_errors_to_the_caller():
    logger = logging.getLogger("absl")
    for path, kept in (("/site-packages/orbax/checkpoint/saving.py", False), ("/own/code.py", True)):
        record = logger.makeRecord("absl", logging.ERROR, path, 1, "no space left", (), None)
        assert bool(logger.filter(record)) == kept


def test_nothing_is_started_over_where_all_are_damaged(two):
    for step in ("3", "7"):
        damage(two / step / checksums.NAME, "truncated")
    with Checkpoints(two) as checkpoints:
        with pytest.warns(match="moved aside"), pytest.raises(ValueError, match="no checkpoint is intact"):
            checkpoints.restore(state(0))
        with pytest.raises(ValueError, match="no checkpoint is intact"):  # nor at a second try
            checkpoints.restore(state(0))
    assert folders(two) == ["3.damaged", "7.damaged"]


def test_nothing_is_started_over_where_all_are_gone(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state(1))
    shutil.rmtree(tmp_path / "checkpoints")
    empty = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(ValueError, match="no checkpoint is intact"):
        empty.restore(state(0))


def test_a_file_that_cannot_be_read_is_damage(two, monkeypatch):
    (unreadable,) = (two / "7").glob("contents.json")
    read = checksums._hash

    def bad_sector(file):
        if file == unreadable:
            raise OSError(errno.EIO, "Input/output error")
        return read(file)

    monkeypatch.setattr(checksums, "_hash", bad_sector)
    with pytest.warns(UserWarning, match=r"'contents\.json' cannot be read .*moved aside"):
        chex.assert_trees_all_equal(Checkpoints(two).restore(state(0)), state(3))


@pytest.mark.parametrize(
    ("other", "says"), [(state(0, "v"), "ema/v is missing"), (state(0, width=9), r"ema/w is \[8\]")]
)
def test_a_checkpoint_of_another_network_is_rejected_and_kept(two, other, says):
    with Checkpoints(two) as checkpoints:
        with pytest.raises(ValueError, match=f"for another network or optimiser.*: {says}"):
            checkpoints.restore(other)
        with pytest.raises(ValueError, match=says):
            checkpoints.restore_ema(other.ema)
    assert folders(two) == ["3", "7"]


def test_a_failed_save_is_an_error_and_leaves_the_others(two, monkeypatch):
    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(checksums, "write", full)
    checkpoints = Checkpoints(two)
    checkpoints.save(state(9))
    with pytest.raises(OSError, match=r"could not be written, those before it are intact: .*No space left"):
        checkpoints.__exit__()
    monkeypatch.undo()
    with Checkpoints(two) as checkpoints:
        chex.assert_trees_all_equal(checkpoints.restore(state(0)), state(7))
    assert folders(two) == ["3", "7"]


POINTS = {
    "before orbax writes": ("checkpoint.ocp.save_checkpointables_async", "before"),
    "orbax writes": ("checkpoint.ocp.save_checkpointables_async", "after"),
    "before it is read back": ("readback.check", "before"),
    "before the list": ("checksums.write", "before"),
    "in the list": ("checksums._flush", "before"),
    "before the name": ("checksums.write", "after"),
    "before it is said": ("step_folders.Path.touch", "before"),
    "before old ones go": ("checkpoint.Checkpoints._prune", "before"),
    "while old ones go": ("step_folders.shutil.rmtree", "before"),
    "after all": ("checkpoint.Checkpoints._prune", "after"),
}
"""Named points of a save."""


def die_in_a_save(folder, name, when):
    """Save step 9 and kill this process before or after the first call of a function."""
    owner, _, attribute = name.rpartition(".")
    owner = pkgutil.resolve_name(f"jaxflow.training.{owner}")
    function = getattr(owner, attribute)

    def killing(*args, **kwargs):
        if when == "after":
            function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    with Checkpoints(folder) as checkpoints:
        setattr(owner, attribute, killing)
        checkpoints.save(state(9))


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_kill_at_a_point_of_a_save_leaves_an_intact_checkpoint(two, point):
    process = CONTEXT.Process(target=die_in_a_save, args=(two, *POINTS[point]))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    expected = 9 if (two / "9").exists() else 7
    assert expected == (
        9 if point in ("before it is said", "before old ones go", "while old ones go", "after all") else 7
    )
    with Checkpoints(two) as checkpoints:
        chex.assert_trees_all_equal(checkpoints.restore(state(0)), state(expected))
        checkpoints.save(state(11))
    assert folders(two) == ["11", str(expected)]
