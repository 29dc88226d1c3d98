import numpy as np
import pytest

from jaxflow.data.dataset import Dataset
from jaxflow.runs import origin


def of(*levels):
    return Dataset.from_arrays(np.stack([np.full((2, 2, 1), level, np.uint8) for level in levels]))


def test_data_that_changed_since_the_run_began_are_noticed(tmp_path):
    assert origin.record(tmp_path, of(1, 2)) is None
    assert origin.record(tmp_path, of(1, 2)) is None
    for other, now in ((of(1, 3), 2), (of(1, 2, 3), 3)):
        says = origin.record(tmp_path, other)
        assert says is not None
        assert says.startswith(f"data: changed since the run began (2 images then, {now} now)")
    assert origin.record(tmp_path, of(1, 2)) is None


@pytest.mark.parametrize("content", ["", "[]", '{"images": 3}', '{"images": null, "fingerprint": "a"}'])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(ValueError, match=r"data.json is damaged .*: delete it"):
        origin.record(tmp_path, of(1))
