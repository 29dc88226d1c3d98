"""Every file of a folder is found once, whatever links and names it has."""

import itertools
import json
import os
from time import monotonic

import pytest
from etils import epath

from jaxflow.data.apart import check_apart
from jaxflow.data.walk import walk


def touch(directory, *names):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()


def test_files_go_by_their_paths_in_order(tmp_path):
    touch(tmp_path, "b/2", "b/1", "a", "c/d/e", ".hidden", ".git/x", "__MACOSX/x", "@eaDir/x")
    walked = walk(tmp_path)
    assert [*walked.files] == ["a", "b/1", "b/2", "c/d/e"]
    assert all(file == tmp_path / name for name, file in walked.files.items())
    assert (walked.runs, walked.links) == ((), 0)
    assert [*walk(epath.Path(tmp_path)).files] == [*walked.files]  # as of a bucket


def test_a_mesh_of_links_is_walked_once(tmp_path):
    for i in range(9):
        touch(tmp_path, *(f"d{i}/{j}" for j in range(5)))
    for i, j in itertools.permutations(range(9), 2):
        os.symlink(tmp_path / f"d{j}", tmp_path / f"d{i}" / f"to{j}")
    since = monotonic()
    walked = walk(tmp_path)
    assert monotonic() - since < 5
    assert [*walked.files] == [f"d{i}/{j}" for i in range(9) for j in range(5)]
    assert walked.links == 72


def test_links_are_followed_but_not_upwards(tmp_path):
    touch(tmp_path, "elsewhere/1", "pictures/2")
    os.symlink(tmp_path / "elsewhere", tmp_path / "pictures" / "linked")
    for place, target in {
        "elsewhere/back": "pictures",
        "pictures/up": ".",
        "pictures/self": "pictures",
    }.items():
        os.symlink(tmp_path / target, tmp_path / place)
    walked = walk(tmp_path / "pictures")
    assert [*walked.files] == ["2", "linked/1"]
    assert walked.links == 3


def test_broken_and_circular_links_are_files_that_will_be_named(tmp_path):
    os.symlink("nowhere.png", tmp_path / "a.png")
    os.symlink("b.png", tmp_path / "b.png")
    assert [*walk(tmp_path).files] == ["a.png", "b.png"]


def test_pipes_are_passed_over(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    touch(tmp_path, "b.png")
    assert [*walk(tmp_path).files] == ["b.png"]


@pytest.mark.parametrize("kind", ["files", "folders"])
def test_names_that_differ_in_composition_only_are_rejected(tmp_path, kind):
    touch(tmp_path, *(f"in/{name}" + "/x" * (kind == "folders") for name in ("caf\u00e9", "cafe\u0301")))
    with pytest.raises(
        ValueError, match=r"two names in/caf\u00e9 differ only in how their accents are composed"
    ):
        walk(tmp_path)


@pytest.mark.parametrize("complete", [True, False])
def test_the_folder_of_a_run_is_skipped(tmp_path, complete):
    touch(tmp_path, "cat/1.png", "cat/run/data.png", "cat/run/samples/1.png")
    config = {"experiment": {}, "codec": {}, "space": {}} if complete else {}
    (tmp_path / "cat/run/config.json").write_text(json.dumps(config))
    if not complete:  # then by its checkpoints
        (tmp_path / "cat/run/checkpoints").mkdir()
    walked = walk(tmp_path)
    assert ([*walked.files], walked.runs) == (["cat/1.png"], ("cat/run/",))
    with pytest.raises(ValueError, match="is the folder of a run, not of images"):
        walk(tmp_path / "cat/run")


def test_empty_folders_are_named(tmp_path):
    touch(tmp_path, "cat/1.png", "dog/.DS_Store")
    (tmp_path / "cat/old/older").mkdir(parents=True)
    assert walk(tmp_path).empty == ("dog/", "cat/old/older/")


def test_another_config_json_is_a_file(tmp_path):
    for i, text in enumerate(["", "[]", "{}", "[" * 10**5]):
        touch(tmp_path, f"{i}/1.png")
        (tmp_path / f"{i}/config.json").write_text(text)
    assert len(walk(tmp_path).files) == 8


@pytest.mark.parametrize(
    ("out", "data"),
    [
        ("a", "a"),
        ("a/run", "a"),
        ("a/b/../run", "a"),
        ("a", "a/b"),
        ("link", "a"),
        ("link/x/run", "a"),
        ("a/run", "link"),
    ],
)
def test_a_run_inside_its_images_is_rejected(tmp_path, monkeypatch, out, data):
    (tmp_path / "a").mkdir()
    os.symlink(tmp_path / "a", tmp_path / "link")
    monkeypatch.chdir(tmp_path)
    for one, other in ((out, data), (tmp_path / out, data), (out, tmp_path / data)):
        with pytest.raises(ValueError, match=r"^out = .* and data_dir = .* choose another --out$"):
            check_apart(one, other)


def test_runs_next_to_images_are_fine(tmp_path):
    touch(tmp_path, "a/1.png", "ab/1.png")
    for out, data in (
        ("ab", "a"),
        ("run", "a"),
        ("gs://bucket/run", "a"),
        ("gs://bucket/ab", "gs://bucket/a"),
    ):
        check_apart(out if "://" in out else tmp_path / out, data if "://" in data else tmp_path / data)
    with pytest.raises(ValueError, match="choose another --out"):
        check_apart("gs://bucket/a/run", "gs://bucket/a")
