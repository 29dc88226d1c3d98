import shutil
import subprocess

import pytest

from jaxflow.training import checksums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "numbers").write_bytes(bytes(range(256)))
    (tmp_path / "words").write_text("words")
    checksums.write(tmp_path)
    return tmp_path


def test_what_was_written_has_no_fault(folder):
    assert checksums.fault(folder) is None


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_sha256sum_reads_the_list(folder):
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", checksums.NAME], cwd=folder, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["a/numbers: OK", "words: OK"]


def test_faults_are_named(folder):
    (folder / "words").write_text("wordz")
    assert checksums.fault(folder) == "'words' is not as it was written"
    (folder / "words").unlink()
    assert checksums.fault(folder) == "'words' is missing"
    (folder / "words").write_text("words")
    (folder / "more").touch()
    assert checksums.fault(folder) == "'more' is not in SHA256SUMS"
    (folder / "more").unlink()
    assert checksums.fault(folder) is None
    (folder / checksums.NAME).unlink()
    assert "SHA256SUMS cannot be read" in checksums.fault(folder)


def test_a_folder_can_be_omitted(folder):
    (folder / "a" / "numbers").write_bytes(b"others")
    (folder / "a" / "more").touch()
    assert checksums.fault(folder, without="a") is None
    shutil.rmtree(folder / "a")
    assert checksums.fault(folder, without="a") is None
    assert checksums.fault(folder) == "'a/numbers' is missing"
    (folder / "words").write_text("wordz")
    assert checksums.fault(folder, without="a") == "'words' is not as it was written"


def test_every_byte_of_the_list_counts(folder):
    whole = (folder / checksums.NAME).read_bytes()
    for byte in range(len(whole)):
        flipped = bytes([*whole[:byte], whole[byte] ^ (1 << byte % 8), *whole[byte + 1 :]])
        (folder / checksums.NAME).write_bytes(flipped)
        assert checksums.fault(folder) is not None, byte
    for length in range(len(whole) - 1):  # its last byte ends the line and says nothing
        (folder / checksums.NAME).write_bytes(whole[:length])
        assert checksums.fault(folder) is not None, length
