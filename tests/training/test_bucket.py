"""Runs in a bucket, of a small Cloud Storage on the loopback."""

import time
from contextlib import suppress

import chex
import cloud_storage
import jax.numpy as jnp
import pytest
from test_checkpoint import state

from jaxflow.places import filesystem, place
from jaxflow.runs import exported, folder, loading
from jaxflow.training import checksums, files, lock
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.lock import Lock


@pytest.fixture(scope="module")
def bucket():
    with cloud_storage.serve("bucket") as (_, variables), pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield "gs://bucket"


def names(path):
    return sorted(each.removeprefix("bucket/") for each in filesystem().find(str(path).removeprefix("gs://")))


def test_checkpoints_are_complete_once_their_hashes_are_there(bucket):
    directory = place(f"{bucket}/run/checkpoints", "out")
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.restore(state(0)) is None
        for step, loss in ((3, 1.0), (7, 2.0), (9, 3.0), (11, 4.0)):
            checkpoints.save(state(step), loss)
        checkpoints.wait()
        assert checkpoints.steps == [3, 9, 11]  # the best and the newest
        assert checksums.fault(directory / "9") is None
        chex.assert_trees_all_equal(checkpoints.restore_ema(state(0).ema), (11, state(11).ema))
    (directory / "13" / "half").write_text("unfinished")
    changed = directory / "11" / "contents.json"
    changed.write_text(changed.read_text() + " ")
    with Checkpoints(directory) as checkpoints:
        with pytest.warns(
            UserWarning, match=r"11 is damaged: 'contents\.json' is not as .*; moved aside as 11.damaged"
        ):
            chex.assert_trees_all_equal(checkpoints.restore(state(0)), state(9))
        assert checkpoints.steps == [3, 9]
        assert not (directory / "13").exists()
        assert checkpoints.restore(state(0)) is not None
        checkpoints.save(state(11))
        checkpoints.wait()
        chex.assert_trees_all_equal(checkpoints.restore(state(0)), state(11))
    filesystem().rm(str(directory), recursive=True)
    with pytest.raises(ValueError, match="no checkpoint is intact"):
        Checkpoints(directory).restore(state(0))


def test_one_run_holds_the_folder_until_it_ends_or_goes_silent(bucket, monkeypatch):
    out = place(f"{bucket}/locked", "out")
    with (
        Lock(out),
        pytest.raises(BlockingIOError, match=r"in use by process \d+ on .* \(if that was killed, try"),
    ):
        Lock(out).__enter__()
    assert names(out) == []
    monkeypatch.setattr(lock, "RENEWAL", 0.1)
    monkeypatch.setattr(lock, "LEASE", 1.0)
    held = Lock(out)
    with held:
        time.sleep(1.5)  # renewed
        with pytest.raises(BlockingIOError):
            Lock(out).__enter__()
        held._held._ended.set()  # as by kill -9
        time.sleep(1.1)
        late = lock._BucketLock(out)
        stale = late._read()
        with Lock(out) as newer:
            late._delete(stale)  # it has been replaced since
            assert names(out) == ["locked/lock"]
            assert newer._held._create()  # a request that was repeated, its reply being lost
            assert not late._create()


def test_files_are_written_at_once_and_logs_grow(bucket, monkeypatch):
    out = place(f"{bucket}/files", "out")
    with suppress(RuntimeError), files.atomic_write(out / "config.json") as stream:
        stream.write(b"half")
        raise RuntimeError
    assert names(out) == []
    with files.atomic_write(out / "config.json") as stream:
        stream.write(b"whole")
    assert (out / "config.json").read_bytes() == b"whole"
    log = files.Appendable(out / "log")
    log.write(b"a")
    assert not (out / "log").exists()  # a write of an object is a request
    monkeypatch.setattr(files, "PATIENCE", 0.0)
    log.write(b"b")
    assert (out / "log").read_bytes() == b"ab"
    log.write(b"c")
    log.close()
    again = files.Appendable(out / "log")
    again.write(b"d")
    again.close()
    assert (out / "log").read_bytes() == b"abcd"
    assert names(out) == ["files/config.json", "files/log"]


def test_a_model_is_exported_to_a_bucket_and_read_from_there(bucket):
    file = place(f"{bucket}/models/model.safetensors", "out")
    assert not exported.is_exported(file)
    exported.write(file, {"w": jnp.arange(3.0)}, {"step": 1})
    assert exported.is_exported(file)
    params, config = exported.read(file)
    chex.assert_trees_all_equal(params, {"w": jnp.arange(3.0)})
    assert config == {"step": 1}
    assert loading.results(file) == place(f"{bucket}/models/model-results", "out")


def test_what_is_not_there_is_one_line(bucket):
    with pytest.raises(FileNotFoundError, match="gs://bucket/nowhere does not exist: expected a run folder"):
        loading.load("gs://bucket/nowhere")
    with pytest.raises(OSError, match="out = gs://no-such-bucket/run: the folder cannot be made"):
        folder.make(place("gs://no-such-bucket/run", "out"))


def test_a_bucket_without_access_is_one_line(bucket, monkeypatch, caplog):
    denied = b'{"error": {"code": 401, "message": "Anonymous caller does not have access"}}'
    monkeypatch.setattr(cloud_storage.Bucket, "reply", lambda *_: (401, {}, denied))
    for use in (loading.load, lambda there: folder.make(place(there, "out"))):
        with pytest.raises(OSError, match=r"gs://bucket/run: .*: Anonymous caller does not have access, 401"):
            use(f"{bucket}/run")
    assert not [record for record in caplog.records if record.name == "gcsfs"]
