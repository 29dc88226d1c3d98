"""Runs in a bucket, against an emulator of Cloud Storage on the loopback.

The emulator lacks the precondition that the lock needs, and waits for idle connections: both are added here.
"""

import socket
import time
from contextlib import suppress
from http.server import ThreadingHTTPServer

import chex
import jax.numpy as jnp
import pytest
from test_checkpoint import state

from jaxflow.places import filesystem, place
from jaxflow.runs import exported, folder
from jaxflow.training import checksums, files, lock
from jaxflow.training.checkpoint import Checkpoints
from jaxflow.training.lock import Lock

objects = pytest.importorskip("gcp_storage_emulator.handlers.objects")
pytest.importorskip("gcsfs")


NO_SIGN_IN = {
    "NO_GCE_CHECK": "true",
    "GCE_METADATA_HOST": "127.0.0.1:9",
    "GCE_METADATA_IP": "127.0.0.1:9",
    "GCE_METADATA_ROOT": "127.0.0.1:9",
    "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
    "GOOGLE_CLOUD_PROJECT": "none",
}
"""Nobody is asked for credentials: no connection leaves the machine."""


def only_if_absent(upload):
    def checked(request, response, storage):
        name = request.data["meta"]["name"]
        names = [each["name"] for each in storage.get_file_list(request.params["bucket_name"])[0]]
        if request.query.get("ifGenerationMatch") == ["0"] and name in names:
            response.status = 412
        else:
            upload(request, response, storage)

    return checked


@pytest.fixture(scope="module")
def bucket():
    from gcp_storage_emulator.server import create_server

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"):
            patch.setenv(name, f"http://127.0.0.1:{port}")
        for name, value in NO_SIGN_IN.items():
            patch.setenv(name, value)
        patch.setattr("http.server.HTTPServer", ThreadingHTTPServer)
        patch.setattr(objects, "_multipart_upload", only_if_absent(objects._multipart_upload))
        with create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket"):
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
        with Lock(out):
            assert names(out) == ["locked/lock"]


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
    assert folder.results(file) == place(f"{bucket}/models/model-results", "out")


def test_what_is_not_there_is_one_line(bucket):
    with pytest.raises(FileNotFoundError, match="gs://bucket/nowhere does not exist: expected a run folder"):
        folder.load("gs://bucket/nowhere")
    with pytest.raises(OSError, match="out = gs://no-such-bucket/run: the folder cannot be made"):
        folder.make(place("gs://no-such-bucket/run", "out"))
