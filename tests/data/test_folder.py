"""A folder of images as a data set: splits, order, classes, notes, fingerprint."""

import itertools
import os
import shutil

import jax
import numpy as np
import pytest
from image_folders import captioned, classes, halves, named, plain, save

from jaxflow.data import reading
from jaxflow.data.batches import batches, load
from jaxflow.data.codecs import ONE_CLASS, Captions, Classes
from jaxflow.data.folder import held_out, open_folder


def test_a_subfolder_for_each_class(tmp_path):
    names = [*classes(tmp_path), "dog/deeper/still/x.png"]
    save(halves(), tmp_path / names[-1])
    both = [open_folder(tmp_path, split, 8) for split in ("train", "test")]
    for dataset in both:
        assert dataset.codec == Classes(("cat", "dog"))
        assert dataset.image_shape == (8, 8, 3)
        for file, example in zip(dataset.source.files, dataset.source, strict=True):
            name = file.relative_to(tmp_path).parts[0]
            assert dataset.codec.names[example["label"]] == name
    assert sum(len(dataset.source) for dataset in both) == len(names)


def test_pictures_stay_with_their_names(tmp_path):
    names = classes(tmp_path)
    dataset = open_folder(tmp_path, "train", 8)
    for file, example in zip(dataset.source.files, dataset.source, strict=True):
        position = names.index(file.relative_to(tmp_path).as_posix())
        assert (example["image"] == (position, 7, 200)).all()


@pytest.mark.parametrize("inside", ["", "unzipped"])
def test_a_flat_folder_is_one_class(tmp_path, inside):
    plain(tmp_path / "birds" / inside, named(5))
    plain(tmp_path / "birds" / inside, named(2, train=False))
    dataset = open_folder(tmp_path / "birds", "train", 8)
    assert dataset.codec == ONE_CLASS
    assert {int(dataset.codec.of(example)) for example in dataset.source} == {0}


def test_captions_are_next_to_the_images(tmp_path):
    captioned(tmp_path)
    train, test = (open_folder(tmp_path, split, 8) for split in ("train", "test"))
    assert isinstance(train.codec, Captions)
    assert train.codec == test.codec
    assert set(train.codec.words) == {"picture", "zero", "one"}
    for file, example in zip(train.source.files, train.source, strict=True):
        assert example["caption"] == f"picture {'one' if int(file.stem) % 2 else 'zero'}"


def test_only_the_words_of_training_are_known(tmp_path):
    plain(tmp_path, [*named(3), *named(1, train=False)])
    for name in named(3):
        (tmp_path / name).with_suffix(".txt").write_text("seen")
    (tmp_path / named(1, train=False)[0]).with_suffix(".txt").write_text("unseen")
    assert open_folder(tmp_path, "test", 8).codec.words == ("seen",)


def test_order_is_by_name_however_the_files_were_made(tmp_path):
    for directory, order in ((tmp_path / "one", 1), (tmp_path / "other", -1)):
        plain(directory, [f"{name}/{i}.png" for name in "ab" for i in range(9)][::order], (1, 2, 3))
    one, other = (open_folder(tmp_path / name, "train", 8).source.files for name in ("one", "other"))
    relative = [file.relative_to(tmp_path / "one").as_posix() for file in one]
    assert relative == sorted(relative)
    assert relative == [file.relative_to(tmp_path / "other").as_posix() for file in other]


def test_no_picture_is_in_both_splits_and_none_changes_sides(tmp_path):
    def sides():
        return {
            split: {file.name for file in open_folder(tmp_path, split, 8).source.files}
            for split in ("train", "test")
        }

    plain(tmp_path, [f"{i:03}.png" for i in range(0, 200, 2)], (1, 2, 3))
    before = sides()
    assert not before["train"] & before["test"]
    assert len(before["train"] | before["test"]) == 100
    plain(tmp_path, [f"{i:03}.png" for i in range(1, 200, 2)], (1, 2, 3))
    after = sides()
    assert all(before[split] < after[split] for split in before)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.001])
def test_the_share_is_held_out(share):
    held = np.mean([held_out(f"{i}.jpg", share) for i in range(20_000)])
    assert abs(held - share) < 6 * (share * (1 - share) / 20_000) ** 0.5


def test_a_larger_share_keeps_what_a_smaller_one_holds_out():
    names = [f"{i}.jpg" for i in range(1000)]
    assert all(held_out(name, 0.3) for name in names if held_out(name, 0.1))


def test_all_images_are_trained_on_if_none_is_held_out(tmp_path):
    names = classes(tmp_path)
    dataset = open_folder(tmp_path, "train", 8, 0)
    assert len(dataset) == len(names)
    assert dataset.notes[0] == "24 images to train on, 0 held out as test (hold_out = 0)"
    with pytest.raises(ValueError, match="hold_out = 0: all images are trained on"):
        open_folder(tmp_path, "test", 8, 0)


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan")])
def test_an_impossible_share_is_rejected(tmp_path, share):
    with pytest.raises(ValueError, match=r"hold_out = .*: must be at least 0 and below 1"):
        open_folder(tmp_path, "train", 8, share)


def test_one_image_is_a_data_set(tmp_path):
    save(halves(), tmp_path / named(1, train=False)[0])
    with pytest.raises(
        ValueError, match=r"none of 1 images is in the split 'train'.*hold_out \(0 to train on all"
    ):
        open_folder(tmp_path, "train", 8)
    dataset = open_folder(tmp_path, "train", 8, 0)
    for resident in (True, False):
        stream = batches(dataset, seed=0, batch_size=1, resident=resident)
        assert [next(stream)["image"].shape for _ in range(3)] == [(1, 8, 8, 3)] * 3


def test_notes_say_what_was_read_and_what_was_not(tmp_path):
    plain(tmp_path, [*named(4), *named(2, train=False), ".hidden.png", ".cache/a.png", "__MACOSX/a.png"])
    for name in ("notes.md", "a.heic", "b.HEIC", ".DS_Store"):
        (tmp_path / name).touch()
    (tmp_path / "dog").mkdir()
    dataset = open_folder(tmp_path, "train", 16)
    assert len(dataset) == 4
    counts, kinds, small, others, empty = dataset.notes
    assert counts == "4 images to train on, 2 held out as test (hold_out = 0.1)"
    assert (kinds, small) == ("classes: image (4)", "smaller than 16 x 16 and enlarged: 4")
    assert empty == "empty folders, skipped: dog/"
    assert others.startswith("other files, ignored: 2 .heic, 1 .md (captions are read from NAME.txt, ")


def fingerprint(directory, split="train"):
    return open_folder(directory, split, 8).fingerprint


@pytest.mark.parametrize("make", [classes, captioned])
def test_the_fingerprint_is_that_of_the_content(tmp_path, monkeypatch, make):
    make(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "moved" / "here")
    before = fingerprint(tmp_path / "one")
    assert fingerprint(tmp_path / "moved" / "here") == before
    assert fingerprint(tmp_path / "one", "test") != before
    monkeypatch.setattr(reading, "RESIDENT_BYTES", 0)
    assert fingerprint(tmp_path / "one") == before


@pytest.mark.parametrize("change", ["pixel", "caption", "name", "removed", "added"])
def test_the_fingerprint_changes_with_each_image_and_caption(tmp_path, change):
    names = captioned(tmp_path, 12)
    before, image = fingerprint(tmp_path), tmp_path / next(name for name in names if not held_out(name))
    text = image.with_suffix(".txt")
    if change == "pixel":
        save(halves(8, 8), image)
    elif change == "caption":
        text.write_text("picture uno")
    elif change == "removed":
        image.unlink()
    else:
        new = next(name for name in ("x.png", "y.png", "z.png") if not held_out(name))
        move = image.rename if change == "name" else lambda to: shutil.copy(image, to)
        move(tmp_path / new)
        shutil.copy(text, (tmp_path / new).with_suffix(".txt"))
    assert fingerprint(tmp_path) != before


def test_a_moved_class_folder_changes_the_fingerprint(tmp_path):
    classes(tmp_path)
    before = fingerprint(tmp_path)
    (tmp_path / "cat").rename(tmp_path / "cow")
    assert fingerprint(tmp_path) != before


@pytest.mark.parametrize("make", [classes, captioned])
def test_resident_and_streamed_batches_are_the_same(tmp_path, monkeypatch, make):
    make(tmp_path)
    kept = open_folder(tmp_path, "train", 8)
    monkeypatch.setattr(reading, "RESIDENT_BYTES", 0)
    read = open_folder(tmp_path, "train", 8)
    assert kept.source.pixels is not None
    assert read.source.pixels is None
    streams = [
        batches(kept, seed=1, batch_size=5, resident=True),
        batches(read, seed=1, batch_size=5, resident=False),
    ]
    for one, other in itertools.islice(zip(*streams, strict=True), 6):
        assert one["image"].shape == (5, 8, 8, 3)
        jax.tree.map(np.testing.assert_array_equal, one, other)
    jax.tree.map(np.testing.assert_array_equal, load(kept), load(read))


def test_a_picture_that_is_damaged_later_is_named_by_the_reading_threads(tmp_path, monkeypatch):
    plain(tmp_path, named(6))
    monkeypatch.setattr(reading, "RESIDENT_BYTES", 0)
    dataset = open_folder(tmp_path, "train", 8)
    (tmp_path / named(6)[3]).write_bytes(b"gone")
    with pytest.raises(ValueError, match=f"{named(6)[3]} cannot be read.*remove it or save it again"):
        next(batches(dataset, seed=0, batch_size=6, resident=False))


def test_all_damaged_pictures_are_named_at_once(tmp_path):
    names = named(4)
    plain(tmp_path, names[:2])
    for name in names[2:]:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{names[2]} .*{names[3]} .*2 images in all"):
        open_folder(tmp_path, "train", 8)


def test_a_broken_link_is_named(tmp_path):
    plain(tmp_path, named(2))
    os.symlink(tmp_path / "nowhere.png", tmp_path / named(3)[2])
    with pytest.raises(ValueError, match=f"{named(3)[2]} cannot be read"):
        open_folder(tmp_path, "train", 8)


def test_no_folder_and_no_picture(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
        open_folder(tmp_path / "nowhere", "train", 8)
    with pytest.raises(FileNotFoundError, match=r"no image is in it; supported are \.avif \.bmp"):
        open_folder(tmp_path, "train", 8)
    (tmp_path / "a.mov").touch()
    with pytest.raises(FileNotFoundError, match=r"no image is in it, only 1 \.mov; supported are"):
        open_folder(tmp_path, "train", 8)


@pytest.mark.parametrize(("there", "asked"), [("train", "test"), ("test", "train")])
def test_an_empty_split_is_named(tmp_path, there, asked):
    plain(tmp_path, named(2, train=there == "train"))
    assert len(open_folder(tmp_path, there, 8).source) == 2
    with pytest.raises(ValueError, match=rf"none of 2 images is in the split '{asked}'.*add images"):
        open_folder(tmp_path, asked, 8)


@pytest.mark.parametrize("split", ["validation", "train[:90%]", ""])
def test_an_unknown_split_is_rejected(tmp_path, split):
    with pytest.raises(
        ValueError, match=r"split .* of data set 'folder': must be train or test, without slices"
    ):
        open_folder(tmp_path, split, 8)


@pytest.mark.parametrize("size", [0, -3, 4097, 100_000])
def test_an_image_size_out_of_range_is_rejected_before_anything_is_read(tmp_path, size):
    with pytest.raises(ValueError, match=f"image_size = {size}: must be from 1 to 4096"):
        open_folder(tmp_path / "nowhere", "train", size)


def test_images_next_to_class_folders_are_named(tmp_path):
    classes(tmp_path)
    plain(tmp_path, ["stray.png"])
    with pytest.raises(
        ValueError, match=r"stray\.png is next to the folders of the classes cat, dog: move it"
    ):
        open_folder(tmp_path, "train", 8)


def test_pictures_without_their_captions_are_named(tmp_path):
    names = captioned(tmp_path)
    for name in names[5:7]:
        (tmp_path / name).with_suffix(".txt").unlink()
    with pytest.raises(ValueError, match=r"2 of 60 images have no caption; the first is 05\.png: write it"):
        open_folder(tmp_path, "train", 8)


def test_folders_of_splits_are_no_classes(tmp_path):
    plain(tmp_path, [f"{split}/{name}" for split in ("train", "val") for name in ("cat/1.png", "dog/1.png")])
    with pytest.raises(
        ValueError,
        match=r"train and val are splits, not classes: name one of them, such as train; part of it",
    ):
        open_folder(tmp_path, "train", 8)


ODD_NAMES = [
    "caf\u00e9",
    "\U0001f431\u200d\U0001f464",
    "x" * 250,
    "[a-z]*?",
    "$x^2_{\\frac",
    "a b",
    "-rf",
    "#1",
    "%41",
    "null",
]


def test_classes_of_odd_names(tmp_path):
    for name in ODD_NAMES:
        plain(tmp_path / name, ["0.png", "1.png", "2.png"])
    dataset = open_folder(tmp_path, "train", 8, 0)
    assert dataset.codec == Classes(tuple(sorted(ODD_NAMES)))
    assert all("\n" not in note and len(note) < 1000 for note in dataset.notes)


def test_names_of_decomposed_accents_are_composed(tmp_path):
    plain(tmp_path / "cafe\u0301", ["0.png", "1.png"])
    plain(tmp_path / "bar", ["0.png"])
    assert open_folder(tmp_path, "train", 8, 0).codec == Classes(("bar", "caf\u00e9"))


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"tab\t", "line\u2028".encode()])
def test_a_class_name_that_no_line_can_hold_is_rejected(tmp_path, name):
    plain(tmp_path, [f"{name}/{i}.png" for name in ("cat", os.fsdecode(name)) for i in range(3)])
    with pytest.raises(ValueError, match="of a class folder is not one line of UTF-8: rename") as caught:
        open_folder(tmp_path, "train", 8, 0)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


def test_names_of_files_may_be_any_bytes(tmp_path):
    names = [os.fsdecode(name) for name in (b"caf\xe9.png", b"two\nlines.png", b"*[x].png", b"-.png")]
    plain(tmp_path, names)
    dataset = open_folder(tmp_path, "train", 8, 0)
    assert len(dataset) == 4
    assert dataset.fingerprint


def test_a_class_without_a_picture_to_train_on_is_named(tmp_path):
    only = next(name for name in (f"rare/{i}.png" for i in itertools.count()) if held_out(name))
    plain(tmp_path, [*(f"often/{i}.png" for i in range(9)), only])
    with pytest.raises(ValueError, match=r"all images of the class 'rare' are held out.*lower hold_out"):
        open_folder(tmp_path, "train", 8)
