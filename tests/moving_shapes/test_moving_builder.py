import numpy as np

from jaxflow.moving_shapes import builder
from jaxflow.moving_shapes.captions import caption
from jaxflow.moving_shapes.scenes import draw, scene
from jaxflow.shapes.scenes import SPLITS


def test_the_tfds_data_set_holds_the_scenes(tmp_path, monkeypatch):
    assert set(builder.CLIPS) == set(SPLITS)
    counts = {"train": 12, "test": 8, "held_out": 4}
    monkeypatch.setattr(builder, "CLIPS", counts)
    moving_shapes = builder.MovingShapes(data_dir=tmp_path, file_format="array_record")
    assert moving_shapes.name == "moving_shapes"
    moving_shapes.download_and_prepare()
    for split, count in counts.items():
        examples = list(moving_shapes.as_data_source(split))
        assert sorted(int(example["index"]) for example in examples) == list(range(count))
        for example in examples:
            this = scene(int(example["index"]), split)
            np.testing.assert_array_equal(example["image"], draw(this))
            assert example["caption"].decode() == caption(this, int(example["index"]))
