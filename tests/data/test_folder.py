import itertools
import os

import jax
import numpy as np
import pytest
from PIL import Image

from jaxflow.data import folder
from jaxflow.data.batches import batches, load
from jaxflow.data.codecs import ONE_CLASS, Captions, Classes
from jaxflow.data.folder import held_out, open_folder, read_picture

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def halves(height=16, width=16):
    """Red on the left, blue on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = RED, BLUE
    return pixels


def save(pixels, file, mode=None, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    (picture.convert(mode) if mode else picture).save(file, **options)


def named(count, suffix=".png", train=True):
    """The first names of a split."""
    names = (f"{i:03}{suffix}" for i in itertools.count())
    return list(itertools.islice((name for name in names if held_out(name) != train), count))


def plain(directory, names, shade=None):
    """A picture of one colour for each name, each of its own."""
    for i, name in enumerate(names):
        colour = np.array([i, 7, 200] if shade is None else shade, np.uint8)
        save(np.broadcast_to(colour, (8, 8, 3)).copy(), directory / name)


def classes(directory, per_class=12):
    names = [f"{name}/{i:02}.png" for name in ("cat", "dog") for i in range(per_class)]
    plain(directory, names)
    return names


def captioned(directory, count=60):
    names = [f"{i:02}.png" for i in range(count)]
    plain(directory, names)
    for i, name in enumerate(names):
        (directory / name).with_suffix(".txt").write_text(f"picture {'one' if i % 2 else 'zero'}\n")
    return names


def image_of(file, size):
    return read_picture(file, size)[0]


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".TIFF"])
def test_formats_without_loss_are_read_to_the_bit(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    save(pixels, tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image_of(tmp_path / f"a{suffix}", 16), pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".avif"])
def test_formats_with_loss_are_read_nearly(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 95}}.get(suffix, {})
    save(halves(32, 32), file, **options)
    image = image_of(file, 32).astype(int)
    for columns, colour in ((slice(0, 12), RED), (slice(20, 32), BLUE)):
        assert np.abs(image[:, columns] - colour).max() < 30


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_colour_modes_become_rgb(tmp_path, mode):
    save(halves(), tmp_path / "a.png", mode)
    np.testing.assert_array_equal(image_of(tmp_path / "a.png", 16), halves())


def test_grey_has_three_equal_channels(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    save(grey, tmp_path / "a.png")
    np.testing.assert_array_equal(image_of(tmp_path / "a.png", 16), np.repeat(grey[..., None], 3, axis=2))


def test_one_bit_is_black_and_white(tmp_path):
    board = np.indices((16, 16)).sum(axis=0) % 2 == 1
    save(Image.fromarray(board), tmp_path / "a.png")
    np.testing.assert_array_equal(image_of(tmp_path / "a.png", 16)[..., 1], 255 * board)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_keep_their_proportions(tmp_path, suffix):
    grey = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    save(grey, tmp_path / f"a{suffix}")
    image = image_of(tmp_path / f"a{suffix}", 16)
    np.testing.assert_array_equal(image[..., 0].ravel(), np.arange(256))


def test_cmyk(tmp_path):
    cyan, half_black = (255, 0, 0, 0), (0, 0, 0, 128)
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, :8], pixels[:, 8:] = cyan, half_black
    save(Image.fromarray(pixels, "CMYK"), tmp_path / "a.tif")
    image = image_of(tmp_path / "a.tif", 16)
    np.testing.assert_array_equal(image[:, 0], [[0, 255, 255]] * 16)
    np.testing.assert_array_equal(image[:, 15], [[127, 127, 127]] * 16)


def test_alpha_lies_on_white(tmp_path):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, :8], pixels[:, 8:] = (255, 0, 0, 0), (0, 0, 0, 128)
    save(pixels, tmp_path / "a.png")
    image = image_of(tmp_path / "a.png", 16).astype(int)
    np.testing.assert_array_equal(image[:, :8], np.broadcast_to(WHITE, (16, 8, 3)))
    assert np.abs(image[:, 8:] - (255 - 128)).max() <= 1


def test_a_transparent_palette_lies_on_white(tmp_path):
    picture = Image.fromarray(np.repeat(np.uint8([[0, 1]]), 8, axis=1).repeat(16, axis=0), "P")
    picture.putpalette([*RED, *BLUE])
    save(picture, tmp_path / "a.png", transparency=0)
    image = image_of(tmp_path / "a.png", 16)
    assert tuple(image[8, 2]) == WHITE
    assert tuple(image[8, 13]) == BLUE


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_orientation_of_the_camera(tmp_path, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(halves(), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(image_of(tmp_path / "a.png", 16), np.rot90(halves(), turns))


@pytest.mark.parametrize("transposed", [False, True])
def test_the_central_square_is_kept(tmp_path, transposed):
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None], 20, axis=0)
    pixels = np.repeat((ramp.T if transposed else ramp)[..., None], 3, axis=2)
    save(pixels, tmp_path / "a.png")
    expected = pixels[20:40] if transposed else pixels[:, 20:40]
    np.testing.assert_array_equal(image_of(tmp_path / "a.png", 20), expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_shrinking_takes_means(tmp_path, suffix):
    """A board of single pixels becomes its mean, where taking every n-th pixel would give black or white."""
    board = (255 * (np.indices((512, 512)).sum(axis=0) % 2)).astype(np.uint8)
    save(board, tmp_path / f"a{suffix}")
    inner = image_of(tmp_path / f"a{suffix}", 16)[2:-2, 2:-2].astype(int)
    assert np.abs(inner - 127.5).max() < 4


def test_enlarged_pictures_are_reported(tmp_path):
    save(halves(8, 30), tmp_path / "small.png")
    save(halves(16, 16), tmp_path / "whole.png")
    assert read_picture(tmp_path / "small.png", 16)[1]
    assert not read_picture(tmp_path / "whole.png", 16)[1]
    assert image_of(tmp_path / "small.png", 16).shape == (16, 16, 3)


def test_the_first_frame_of_a_film(tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert tuple(image_of(tmp_path / "a.gif", 4)[0, 0]) == RED


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


def test_captions_lie_beside(tmp_path):
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


def test_captions_are_cleaned(tmp_path):
    plain(tmp_path, named(1))
    text = (tmp_path / named(1)[0]).with_suffix(".TXT")
    text.write_bytes("\ufeff\n  a cafe\u0301 \r\n\n in  Paris\n".encode())
    assert open_folder(tmp_path, "train", 8).source[0]["caption"] == "a caf\u00e9 in Paris"


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


def test_one_in_ten_is_held_out():
    share = np.mean([held_out(f"{i}.jpg") for i in range(20_000)])
    assert abs(share - 0.1) < 6 * (0.1 * 0.9 / 20_000) ** 0.5


def test_hidden_and_other_files_are_passed_over_and_counted(tmp_path):
    plain(tmp_path, [*named(4), ".hidden.png", ".cache/a.png", "__MACOSX/a.png"])
    for name in ("notes.md", "a.heic", "b.HEIC", ".DS_Store"):
        (tmp_path / name).touch()
    source = open_folder(tmp_path, "train", 16).source
    assert len(source) == 4
    assert source.notes == (
        "classes: image (4)",
        "smaller than 16 x 16 and enlarged: 4",
        "other files, ignored: 2 .heic, 1 .md",
    )


def test_links_are_followed_but_not_in_circles(tmp_path):
    plain(tmp_path / "elsewhere", named(3))
    (tmp_path / "pictures").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "pictures" / "linked")
    os.symlink(tmp_path / "pictures", tmp_path / "elsewhere" / "back")
    assert sum(not held_out(f"linked/{name}") for name in named(3)) == len(
        open_folder(tmp_path / "pictures", "train", 8).source
    )


@pytest.mark.parametrize("make", [classes, captioned])
def test_resident_and_streamed_batches_are_the_same(tmp_path, monkeypatch, make):
    make(tmp_path)
    kept = open_folder(tmp_path, "train", 8)
    monkeypatch.setattr(folder, "RESIDENT_BYTES", 0)
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
    monkeypatch.setattr(folder, "RESIDENT_BYTES", 0)
    dataset = open_folder(tmp_path, "train", 8)
    (tmp_path / named(6)[3]).write_bytes(b"gone")
    with pytest.raises(ValueError, match=f"{named(6)[3]} cannot be read.*remove it or save it anew"):
        next(batches(dataset, seed=0, batch_size=6, resident=False))


def truncate(file):
    save(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif", ".gif"])
def test_a_truncated_picture_is_named(tmp_path, suffix):
    file = tmp_path / f"broken{suffix}"
    truncate(file)
    with pytest.raises(ValueError, match=rf"broken\{suffix} cannot be read.*remove it or save it anew"):
        read_picture(file, 64)


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_what_is_no_picture_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png cannot be read, it is none of AVIF, BMP"):
        read_picture(tmp_path / "a.png", 8)


def test_all_damaged_pictures_are_named_at_once(tmp_path):
    names = named(4)
    plain(tmp_path, names[:2])
    for name in names[2:]:
        truncate(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{names[2]} .*{names[3]} .*2 pictures in all"):
        open_folder(tmp_path, "train", 8)


def test_a_broken_link_is_named(tmp_path):
    plain(tmp_path, named(2))
    os.symlink(tmp_path / "nowhere.png", tmp_path / named(3)[2])
    with pytest.raises(ValueError, match=f"{named(3)[2]} cannot be read"):
        open_folder(tmp_path, "train", 8)


def test_a_huge_picture_is_named(tmp_path, monkeypatch):
    save(halves(64, 64), tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(
        ValueError, match=r"huge.png cannot be read, Image size \(4096 pixels\) exceeds limit"
    ):
        read_picture(tmp_path / "huge.png", 8)


def test_numbers_of_32_bits_are_refused(tmp_path):
    save(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8), tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif cannot be read, it has numbers of 32 bits"):
        read_picture(tmp_path / "a.tif", 8)


def test_no_folder_and_no_picture(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
        open_folder(tmp_path / "nowhere", "train", 8)
    with pytest.raises(FileNotFoundError, match=r"no picture is in it; read are \.avif \.bmp"):
        open_folder(tmp_path, "train", 8)
    (tmp_path / "a.mov").touch()
    with pytest.raises(FileNotFoundError, match=r"no picture is in it, only 1 \.mov; read are"):
        open_folder(tmp_path, "train", 8)


@pytest.mark.parametrize(("there", "asked"), [("train", "test"), ("test", "train")])
def test_an_empty_split_is_named(tmp_path, there, asked):
    plain(tmp_path, named(2, train=there == "train"))
    assert len(open_folder(tmp_path, there, 8).source) == 2
    with pytest.raises(
        ValueError, match=rf"none of its pictures \(2\) is in the split '{asked}'.*add pictures"
    ):
        open_folder(tmp_path, asked, 8)


@pytest.mark.parametrize("split", ["validation", "train[:90%]", ""])
def test_split_that_is_not_there(tmp_path, split):
    with pytest.raises(ValueError, match=r"no split .*: it has train and test, whole, without slices"):
        open_folder(tmp_path, split, 8)


@pytest.mark.parametrize("size", [0, -3])
def test_size_below_one(tmp_path, size):
    with pytest.raises(ValueError, match=f"image_size = {size}: at least 1"):
        open_folder(tmp_path, "train", size)


def test_pictures_beside_classes_are_named(tmp_path):
    classes(tmp_path)
    plain(tmp_path, ["stray.png"])
    with pytest.raises(
        ValueError, match=r"stray\.png lies beside the folders of the classes cat, dog: move it"
    ):
        open_folder(tmp_path, "train", 8)


def test_pictures_without_their_captions_are_named(tmp_path):
    names = captioned(tmp_path)
    for name in names[5:7]:
        (tmp_path / name).with_suffix(".txt").unlink()
    with pytest.raises(
        ValueError, match=r"2 of 60 pictures have no caption; the first is 05\.png: write 05\.txt"
    ):
        open_folder(tmp_path, "train", 8)


@pytest.mark.parametrize(("content", "says"), [(b" \n", "is empty"), (b"caf\xe9", "is not UTF-8")])
def test_captions_that_cannot_be_read_are_named(tmp_path, content, says):
    names = captioned(tmp_path)
    (tmp_path / names[3]).with_suffix(".txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"03\.txt {says}"):
        open_folder(tmp_path, "train", 8)


def test_folders_of_splits_are_no_classes(tmp_path):
    plain(tmp_path, [f"{split}/{name}" for split in ("train", "val") for name in ("cat/1.png", "dog/1.png")])
    with pytest.raises(ValueError, match=r"train and val are splits, not classes; name one, such as .*train"):
        open_folder(tmp_path, "train", 8)


def test_a_folder_of_a_class_is_named_in_utf_8(tmp_path):
    plain(tmp_path, [f"{name}/{i}.png" for name in ("cat", os.fsdecode(b"caf\xe9")) for i in range(9)])
    with pytest.raises(ValueError, match=r"the name b'caf.xe9' of a folder is not UTF-8: rename it"):
        open_folder(tmp_path, "train", 8)


def test_a_class_without_a_picture_to_train_on_is_named(tmp_path):
    only = next(name for name in (f"rare/{i}.png" for i in itertools.count()) if held_out(name))
    plain(tmp_path, [*(f"often/{i}.png" for i in range(9)), only])
    with pytest.raises(ValueError, match="all pictures of the class 'rare' are in test"):
        open_folder(tmp_path, "train", 8)
