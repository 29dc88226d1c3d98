"""A miniature run as one file, and sampling from that file alone."""

import dataclasses
import errno
import json
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from forked import Forked
from safetensors.numpy import save_file
from small_digits import ON_ONE_CORE

from experiments import export, sample
from jaxflow.runs import exported
from jaxflow.runs.folder import newest_params, open_run
from jaxflow.runs.frozen_text import FrozenText
from jaxflow.runs.loading import results
from jaxflow.runs.schema import encode

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("standard_promotion")]

SAMPLES = ["--w", "1", "2", "--labels", "3", "7", "--per-label", "2", "--steps", "2"]


@pytest.fixture
def folder(unbroken, tmp_path):
    """A copy of a run with checkpoints of steps 8 and 12."""
    return Path(shutil.copytree(unbroken, tmp_path / "run"))


@pytest.fixture
def file(folder):
    export.main([str(folder)])
    return folder / "model.safetensors"


def sampled(place, samples, *arguments):
    """The files of `sample` in a process of its own."""
    process = Forked("sample", place, *SAMPLES, *arguments, before=ON_ONE_CORE)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return {name: (samples / name).read_bytes() for name in ("grid.png", "w=1.npz", "w=2.npz")}


def refused(capsys, script, *arguments):
    """The one line of an error."""
    with pytest.raises(SystemExit) as stop:
        script.main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return error


def test_a_file_alone_samples_what_its_run_samples(folder, file, tmp_path):
    expected = sampled(folder, folder / "samples")
    alone = tmp_path / "alone"
    alone.mkdir()
    file.rename(alone / "digits.safetensors")
    shutil.rmtree(folder)
    assert sampled(alone / "digits.safetensors", alone / "digits-results" / "samples") == expected


def test_the_file_has_every_bit_of_the_average_and_its_step(folder, tmp_path, capsys):
    file = tmp_path / "model"
    export.main([str(folder), "--out", str(file)])
    run, of_file = open_run(folder), open_run(file)
    _, params = newest_params(file, of_file)
    chex.assert_trees_all_equal(params, newest_params(folder, run)[1])
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    assert dataclasses.replace(of_file, data_dir=run.data_dir) == run
    assert exported.read(file)[1]["step"] == 12
    assert f"{file}: step 12, {file.stat().st_size:,} bytes" in capsys.readouterr().out


def test_the_file_has_no_path_of_the_machine(unbroken, file):
    assert str(unbroken.parent).encode() not in file.read_bytes()


def test_the_step_is_that_of_the_newest_intact_checkpoint(folder, tmp_path):
    (folder / "checkpoints" / "12" / "contents.json").write_text("{}")
    with pytest.warns(UserWarning, match="12 is damaged"):
        export.main([str(folder), "--out", str(tmp_path / "file")])
    assert exported.read(tmp_path / "file")[1]["step"] == 8


def test_images_go_where_they_are_wanted(file, tmp_path):
    out = tmp_path / "there" / "images"
    sample.main(
        [str(file), "--w", "1", "--labels", "3", "--per-label", "1", "--steps", "1", "--out", str(out)]
    )
    assert sorted(os.listdir(out)) == ["grid.png", "w=1.npz"]
    assert not (file.parent / "model-results").exists()
    assert results(file.parent) == file.parent
    assert results(file) == file.parent / "model-results"


def test_the_data_of_a_file_are_looked_for_where_they_belong(file, data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    assert open_run(file).open_split("test").image_shape == (8, 8, 1)
    run = open_run(file)
    pictures = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, dataset="folder"))
    with pytest.raises(ValueError, match="--data-dir"):
        pictures.open_split("train")


def test_only_a_run_folder_with_a_checkpoint_is_exported(folder, file, tmp_path, capsys):
    assert "does not exist" in refused(capsys, export, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "is not a run folder" in refused(capsys, export, tmp_path / "empty")
    assert f"run = {file}: it is a file" in refused(capsys, export, file)
    assert f"out = {tmp_path}: it is a folder" in refused(capsys, export, folder, "--out", tmp_path)
    assert "there is no folder" in refused(capsys, export, folder, "--out", tmp_path / "no" / "file")
    assert "run is empty" in refused(capsys, export, "")
    assert "out is empty" in refused(capsys, export, folder, "--out", "")
    shutil.rmtree(folder / "checkpoints")
    assert "no checkpoint is intact" in refused(capsys, export, folder, "--out", tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_only_an_exported_file_is_replaced(folder, file, tmp_path, capsys):
    others = {name: tmp_path / name for name in ("text", "empty", "link", "dangling", "fifo", "device")}
    others["text"].write_text("a thesis")
    others["empty"].touch()
    others["link"].symlink_to(file)
    others["dangling"].symlink_to(tmp_path / "nothing")
    os.mkfifo(others["fifo"])
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "weights")
    others["weights"], others["config"] = tmp_path / "weights", folder / "config.json"
    with suppress(PermissionError):  # of a test that is not root's
        os.mknod(others["device"], 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    before = {name: os.lstat(other) for name, other in others.items() if os.path.lexists(other)}
    for name in before:
        says = "it is a link" if name in ("link", "dangling") else "it exists and is not an exported model"
        assert says in refused(capsys, export, folder, "--out", others[name])
    assert {name: os.lstat(others[name]).st_ino for name in before} == {
        name: each.st_ino for name, each in before.items()
    }
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    export.main([str(folder)])  # a damaged export may be replaced
    assert exported.read(file)[1]["step"] == 12


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_what_cannot_be_written_is_one_line(folder, tmp_path, capsys, monkeypatch, number):
    def fails(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("jaxflow.training.files.os.fsync", fails)
    error = refused(capsys, export, folder, "--out", tmp_path / "file")
    assert error == f"error: out = {tmp_path / 'file'}: {os.strerror(number)}: choose another --out"
    assert os.listdir(tmp_path) == ["run"]


def test_what_is_no_such_file_is_one_line(folder, file, tmp_path, capsys):
    assert "does not exist" in refused(capsys, sample, tmp_path / "nowhere.safetensors")
    assert "is not a complete safetensors file" in refused(capsys, sample, folder / "config.json")
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    assert "model.safetensors is damaged" in refused(capsys, sample, file)
    assert not (folder / "model-results").exists()


def test_parameters_of_another_network_or_version_are_rejected(folder, file, tmp_path, capsys):
    params, config = exported.read(file)
    config["experiment"]["network"]["mlp_ratio"] = 2
    exported.write(file, params, config)
    assert "was written for another network" in refused(capsys, sample, file)
    config = json.loads((folder / "config.json").read_text())
    exported.write(
        file, params, {name: config[name] for name in config if name != "sha256"} | {"experiment": {}}
    )
    assert "or was written by another version" in refused(capsys, sample, file)


def test_a_frozen_text_encoder_has_to_be_there(file, tmp_path, capsys):
    params, config = exported.read(file)
    missing = tmp_path / "clip"
    exported.write(file, params, config | {"codec": encode(FrozenText(str(missing)))})
    assert f"needs the frozen text encoder {missing}, which does not exist" in refused(capsys, sample, file)
