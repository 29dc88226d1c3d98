import numpy as np

from jaxflow.data.codecs import Captions
from jaxflow.data.datasets import open_dataset
from jaxflow.shapes import builder
from jaxflow.shapes.captions import LONGEST, WORDS, caption
from jaxflow.shapes.scenes import SPLITS, draw, scene


def test_the_tfds_data_set_holds_the_scenes(tmp_path, monkeypatch):
    assert set(builder.SCENES) == set(SPLITS)
    counts = {"train": 30, "test": 20, "held_out": 10}
    monkeypatch.setattr(builder, "SCENES", counts)
    shapes = builder.Shapes(data_dir=tmp_path, file_format="array_record")
    shapes.download_and_prepare()
    for split, count in counts.items():
        examples = list(shapes.as_data_source(split))
        assert sorted(int(example["index"]) for example in examples) == list(range(count))
        for example in examples:
            this = scene(int(example["index"]), split)
            np.testing.assert_array_equal(example["image"], draw(this))
            assert example["caption"].decode() == caption(this, int(example["index"]))


def test_it_opens_by_name_and_version(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "SCENES", dict.fromkeys(SPLITS, 8))
    for name in ("shapes", "shapes:1.0.0"):
        dataset = open_dataset(name, "train", tmp_path)
        assert (len(dataset), dataset.image_shape) == (8, (32, 32, 3))
        assert dataset.codec == Captions(WORDS, LONGEST)
