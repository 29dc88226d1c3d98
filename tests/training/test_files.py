import os

import pytest

from jaxflow.training.files import Appendable, atomic_write


@pytest.mark.parametrize("name", ["model", "x" * 255, "é" * 127])
def test_a_file_changes_at_once_or_not_at_all(tmp_path, name):
    file = tmp_path / name
    with atomic_write(file) as stream:
        stream.write(b"before")
    with pytest.raises(KeyError), atomic_write(file) as stream:  # noqa: PT012
        stream.write(b"half")
        raise KeyError
    assert file.read_bytes() == b"before"
    with atomic_write(file) as stream:
        stream.write(b"after")
        assert file.read_bytes() == b"before"
    assert file.read_bytes() == b"after"
    assert os.listdir(tmp_path) == [name]


def test_a_log_grows_and_is_on_the_disk_at_once(tmp_path):
    for line in (b"a\n", b"b\n"):
        log = Appendable(tmp_path / "log")
        log.write(line)
        written = (tmp_path / "log").read_bytes()
        log.close()
        assert written.endswith(line)
    assert (tmp_path / "log").read_bytes() == b"a\nb\n"


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"), atomic_write(tmp_path / "no" / "file"):
        pass
