"""Single image files: formats, modes, orientation, damage."""

import os

import numpy as np
import pytest
from image_folders import BLUE, RED, WHITE, halves, save
from PIL import Image

from jaxflow.data.pictures import read_picture, to_rgb


def image_of(file, size):
    return read_picture(file, size, size)[0]


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".TIFF"])
def test_lossless_formats_are_read_exactly(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    save(pixels, tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image_of(tmp_path / f"a{suffix}", 16), pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".avif"])
def test_lossy_formats_are_read_closely(tmp_path, suffix):
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


def test_alpha_is_composed_on_white(tmp_path):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, :8], pixels[:, 8:] = (255, 0, 0, 0), (0, 0, 0, 128)
    save(pixels, tmp_path / "a.png")
    image = image_of(tmp_path / "a.png", 16).astype(int)
    np.testing.assert_array_equal(image[:, :8], np.broadcast_to(WHITE, (16, 8, 3)))
    assert np.abs(image[:, 8:] - (255 - 128)).max() <= 1


def test_a_transparent_palette_is_composed_on_white(tmp_path):
    picture = Image.fromarray(np.repeat(np.uint8([[0, 1]]), 8, axis=1).repeat(16, axis=0), "P")
    picture.putpalette([*RED, *BLUE])
    save(picture, tmp_path / "a.png", transparency=0)
    image = image_of(tmp_path / "a.png", 16)
    assert tuple(image[8, 2]) == WHITE
    assert tuple(image[8, 13]) == BLUE


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation(tmp_path, orientation, turns):
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
    assert read_picture(tmp_path / "small.png", 16, 16)[1]
    assert not read_picture(tmp_path / "whole.png", 16, 16)[1]
    assert image_of(tmp_path / "small.png", 16).shape == (16, 16, 3)


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert tuple(image_of(tmp_path / "a.gif", 4)[0, 0]) == RED


def truncate(file):
    save(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif", ".gif"])
def test_a_truncated_picture_is_named(tmp_path, suffix):
    file = tmp_path / f"broken{suffix}"
    truncate(file)
    with pytest.raises(ValueError, match=rf"broken\{suffix} cannot be read.*remove it or save it again"):
        read_picture(file, 64, 64)


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png cannot be read, it is none of AVIF, BMP"):
        read_picture(tmp_path / "a.png", 8, 8)


def test_a_huge_picture_is_named(tmp_path, monkeypatch):
    save(halves(64, 64), tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(
        ValueError, match=r"huge.png cannot be read, Image size \(4096 pixels\) exceeds limit"
    ):
        read_picture(tmp_path / "huge.png", 8, 8)


@pytest.mark.parametrize("most", [1, 255, 70_000])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_numbers_of_32_bits_are_rejected(tmp_path, dtype, most):
    """Their white is unknown: read as 16 bits, 0 to 255 would be black."""
    save(np.linspace(0, most, 64).astype(dtype).reshape(8, 8), tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif cannot be read, it has numbers of 32 bits"):
        read_picture(tmp_path / "a.tif", 8, 8)


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_of_either_byte_order(tmp_path, order):
    grey = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16).astype(f"{order}u2")
    save(Image.frombytes("I;16" if order == "<" else "I;16B", (16, 16), grey.tobytes()), tmp_path / "a.tif")
    np.testing.assert_array_equal(image_of(tmp_path / "a.tif", 16)[..., 1].ravel(), np.arange(256))


@pytest.mark.parametrize("mode", ["LA", "PA", "1", "YCbCr", "HSV"])
def test_rare_modes_have_a_white_that_is_white(mode):
    white = Image.new("L", (4, 4), "white").convert("RGB" if mode in ("YCbCr", "HSV") else "L").convert(mode)
    assert (np.asarray(to_rgb(white)) == 255).all()


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (1, 1)])
def test_extreme_shapes_are_enlarged_from_their_central_square(tmp_path, shape):
    save(np.full((*shape, 3), 90, np.uint8), tmp_path / "a.png")
    image, small = read_picture(tmp_path / "a.png", 8, 8)
    assert small
    assert (image == 90).all()


def test_a_message_is_one_short_line_whatever_the_name(tmp_path):
    directory = tmp_path / ("x" * 200)
    directory.mkdir()
    file = directory / os.fsdecode(b"caf\xe9\n.png")
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"caf\\xe9\\n\.png cannot be read, it is none of") as caught:
        read_picture(file, 8, 8)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
