"""Places as people write them: what is accepted, and what is rejected before anything is made."""

import os
from pathlib import Path

import pytest
from etils import epath

from jaxflow.places import bucket_errors, place

NAMES = [
    "lr [1e-3]",
    "a*b?",
    "a\\b",
    "x" * 250,
    "cafe\u0301",
    "😀 run",
    " ",
    "-x",
    "a~",
    "C:x",
    "9:30/run",
]


@pytest.mark.parametrize("name", NAMES)
def test_local_names_are_taken_as_they_are(name):
    assert place(name, "out") == Path(name)
    assert place(Path(name), "out") == Path(name)


def test_a_tilde_is_the_home_directory(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert place("~/run", "out") == Path("/home/someone/run")
    assert place("./~/run", "out") == Path("~/run")
    with pytest.raises(ValueError, match=r"^out = '~nobody_of_this_name/x': .*write the path without ~$"):
        place("~nobody_of_this_name/x", "out")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"out is empty: name a file or folder; is a variable of your shell unset\?"),
        ("a\nb", r"out = 'a\\nb': a path must not have line breaks or NUL"),
        ("a\0b", "must not have line breaks or NUL"),
        (os.fsdecode(b"caf\xe9"), r"out = 'caf\\udce9': the path is not UTF-8: rename it"),
        ("s3://bucket/run", r"s3:// is not supported: use a local folder .* or gs://bucket/folder"),
        ("hdfs://host/run", "hdfs:// is not supported"),
        ("https://host/run", "https:// is not supported"),
        ("file:///home/run", "file:// is not supported"),
        ("S3:/bucket", "S3:// is not supported"),
        ("gs://", "the bucket is missing: gs://bucket/folder"),
        ("gs:///", "the bucket is missing"),
        ("gs://bucket/lr [1]", r"a name in a bucket must not have any of \* \? \[ \] # \\$"),
        ("gs://bucket/" + "x" * 1000 + "*", "must not have any of"),
    ],
)
def test_other_texts_are_one_line(text, says):
    with pytest.raises(ValueError, match=says) as error:
        place(text, "out")
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 500


def test_a_bucket_needs_its_extra(monkeypatch):
    for found, text in ((None, "gs://bucket/run"), (None, Path("gs://bucket/run"))):
        monkeypatch.setattr("jaxflow.places.find_spec", lambda name, found=found: found)
        with pytest.raises(ValueError, match=r"pip install 'jaxflow\[gcs\]'"):
            place(text, "out")
    monkeypatch.setattr("jaxflow.places.find_spec", lambda name: "there")
    for text in ("gs://bucket/run", "gs:/bucket/run", Path("gs://bucket/run")):
        assert place(text, "out") == epath.Path("gs://bucket/run")
    assert place("gs://bucket/run", "out") / "a" == epath.Path("gs://bucket/run/a")


def test_errors_of_a_bucket_name_it():
    with (
        pytest.raises(OSError, match=r"gs:/b/run: the bucket cannot be used: KeyError"),
        bucket_errors(Path("gs:/b/run")),
    ):
        raise KeyError("token")
    hung_up = type("ClientError", (ConnectionError,), {})  # aiohttp's are of OSError too
    with pytest.raises(OSError, match=r"gs:/b/run: .*: ClientError: gone"), bucket_errors(Path("gs:/b/run")):
        raise hung_up("gone")
    with pytest.raises(FileNotFoundError), bucket_errors(Path("gs:/b/run")):
        raise FileNotFoundError
