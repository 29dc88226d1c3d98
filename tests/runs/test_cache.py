import jax
import pytest

from jaxflow.runs import cache


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    cache._writable.cache_clear()
    for name in ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    yield
    cache._writable.cache_clear()


def test_the_folder_is_made_where_the_environment_says(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache.directory() == tmp_path / "cache" / "jaxflow"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.directory() == tmp_path / ".cache" / "jaxflow"
    assert capsys.readouterr().err == ""


def no_home(monkeypatch, tmp_path):
    def expanduser(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache.Path, "expanduser", expanduser)


def read_only(monkeypatch, tmp_path):
    def fails(*_, **__):
        raise OSError(30, "Read-only file system", "cache")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cache.tempfile, "TemporaryFile", fails)


def a_file(monkeypatch, tmp_path):
    (tmp_path / ".cache").touch()
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("fault", [no_home, read_only, a_file])
def test_without_a_home_a_temporary_folder_serves_and_one_line_says_so(fault, tmp_path, monkeypatch, capsys):
    fault(monkeypatch, tmp_path)
    folder = cache.directory()
    assert cache.directory() == folder
    assert folder.is_dir()
    assert folder.name.startswith("jaxflow-")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: nothing is cached: ")
    assert "set XDG_CACHE_HOME to a writable folder" in line


def test_where_nothing_can_be_written_no_programs_are_kept(tmp_path, monkeypatch):
    no_home(monkeypatch, tmp_path)

    def fails(*_, **__):
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(cache.tempfile, "mkdtemp", fails)
    updated = []
    monkeypatch.setattr(jax.config, "update", lambda *option: updated.append(option))
    cache.keep_programs()
    assert updated == []
