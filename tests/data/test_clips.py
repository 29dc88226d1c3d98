"""Single files of clips: formats, times, damage; and folders of them."""

import builtins
import io
import resource
import struct
import time
import wave
import zlib
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from image_folders import BLUE, RED, WHITE, halves, named
from PIL import Image

from jaxflow.data import clips as clips_module
from jaxflow.data import reading
from jaxflow.data.batches import batches, load
from jaxflow.data.clip_files import encoded, write_clip
from jaxflow.data.clip_folder import open_clips
from jaxflow.data.clips import read_clip
from jaxflow.data.codecs import Captions, Classes
from jaxflow.data.folder import open_folder

SIDE = 16


def noise(frames=12, height=SIDE, width=SIDE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def shades(frames, step=20):
    """Each frame of one shade, i * step: which frames were taken can be read from them."""
    return np.broadcast_to(
        (step * np.arange(frames, dtype=np.uint8))[:, None, None, None], (frames, SIDE, SIDE, 3)
    )


def taken(clip, step=20):
    return np.round(clip[:, 8, 8].mean(axis=-1) / step).astype(int).tolist()


def read(file, frames, rate=None):
    return read_clip(file, frames, SIDE, SIDE, rate)[0]


def animated(file, durations, step=20, **options):
    """Frames of one shade each, for so many milliseconds, by Pillow."""
    first, *others = [Image.fromarray(frame) for frame in shades(len(durations), step)]
    first.save(file, save_all=True, append_images=others, duration=durations, **options)


def video(file, frames, rate=10, codec="libx264", times=None, degrees=0, aspect=None, **options):
    """A video by PyAV; `times` of the frames in units of 1 / 1000 s."""
    frames = np.asarray(frames)
    with av.open(str(file), "w", container_options=options) as container:
        stream = container.add_stream(codec, rate=rate, options={"g": "8"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p" if codec != "ffv1" else "bgr0"
        if degrees:
            stream.set_display_rotation(degrees)
        if aspect:
            stream.sample_aspect_ratio = aspect
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times:
                stream.codec_context.time_base = frame.time_base = Fraction(1, 1000)
                frame.pts = times[i]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file


def sound(file):
    with av.open(str(file), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".webp", ".png"])
@pytest.mark.parametrize("rate", [8, 30, 29.97, 0.5, 100])
def test_webp_and_png_are_exact(tmp_path, suffix, rate, channels):
    clip = noise()[..., :channels]
    clip[5:8] = clip[4]  # equal frames
    write_clip(tmp_path / f"a{suffix}", clip, rate)
    expected = np.broadcast_to(clip, (*clip.shape[:3], 3))
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}", 12), expected)
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}", 12, rate), expected)


@pytest.mark.parametrize("rate", [8, 30, 0.5, 100])
def test_a_gif_of_256_colours_is_exact(tmp_path, rate):
    clip = noise(1, 16, 16).reshape(256, 3)[np.random.default_rng(1).integers(0, 256, (12, 16, 16))]
    clip[5:8] = clip[4]
    write_clip(tmp_path / "a.gif", clip, rate)
    np.testing.assert_array_equal(read(tmp_path / "a.gif", 12), clip)
    np.testing.assert_array_equal(read(tmp_path / "a.gif", 12, rate), clip)


def test_a_gif_of_more_colours_has_those_nearest(tmp_path):
    ramp = np.arange(32, dtype=np.uint8) * 8
    clip = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(128)), axis=-1)[None].repeat(3, 0)
    write_clip(tmp_path / "a.gif", clip, 8)
    assert np.abs(read_clip(tmp_path / "a.gif", 3, 32, 32)[0].astype(int) - clip).max() < 40


@pytest.mark.parametrize("suffix", [".mp4", ".MP4"])
def test_mp4_is_close_and_of_any_size(tmp_path, suffix):
    clip = np.stack([np.roll(halves(30, 30), i, axis=1) for i in range(0, 24, 2)])
    write_clip(tmp_path / f"a{suffix}", clip[:, :29, :29], 12)
    back, notes = read_clip(tmp_path / f"a{suffix}", 12, 30, 30)
    assert np.abs(back.astype(int) - clip).mean() < 8
    assert notes == ()


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mp4", "libx264"),
        (".mov", "mpeg4"),
        (".mkv", "libx264"),
        (".webm", "libvpx"),
        (".webm", "libvpx-vp9"),
        (".avi", "mpeg4"),
        (".avi", "libx264"),  # with frames out of order
        (".ts", "libx264"),
        (".mpg", "mpeg2video"),
        (".flv", "flv"),
        (".wmv", "wmv2"),
    ],
)
def test_the_middle_of_a_video(tmp_path, suffix, codec):
    file = video(tmp_path / f"a{suffix}", shades(40, 6), 25, codec)
    clip, notes = read_clip(file, 5, SIDE, SIDE)
    np.testing.assert_array_equal(taken(clip, 6), [17, 18, 19, 20, 21])
    assert notes == ("longer than 5 frames, of which the middle is taken",)
    np.testing.assert_array_equal(taken(read(file, 40), 6), range(40))
    np.testing.assert_array_equal(taken(read(file, 4, 12.5), 6), [16, 18, 20, 22])


def test_lossless_video_is_exact(tmp_path):
    file = video(tmp_path / "a.mkv", noise(), codec="ffv1")
    np.testing.assert_array_equal(read(file, 12), noise())


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_durations_are_respected_at_a_rate(tmp_path, suffix):
    """Frames begin at 0, 100, 400 and 500 ms, and the last ends at 1000 ms."""
    file = tmp_path / f"a{suffix}"
    animated(file, [100, 300, 100, 500], **({"lossless": True} if suffix == ".webp" else {}))
    assert taken(read(file, 4)) == [0, 1, 2, 3]
    assert taken(read(file, 10, 10)) == [0, 1, 1, 1, 2, 3, 3, 3, 3, 3]
    assert taken(read(file, 4, 10)) == [1, 2, 3, 3]
    assert taken(read(file, 5, 5)) == [0, 1, 2, 3, 3]
    assert read_clip(file, 5, SIDE, SIDE, 5)[1] == ("of fewer than 5 frames per second, some repeated",)
    with pytest.raises(
        ValueError,
        match=r"lasts 1 s, which at rate = 5 is 5 frames, fewer than frames = 6: lower --frames or raise",
    ):
        read(file, 6, 5)


def test_times_of_a_video_are_respected_at_a_rate(tmp_path):
    file = video(tmp_path / "a.mkv", shades(4, 60), times=[0, 100, 400, 500], codec="ffv1")
    assert taken(read(file, 6, 10), 60) == [0, 1, 1, 1, 2, 3]


@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".webp"])
def test_times_rounded_to_milliseconds_neither_repeat_nor_skip(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    if suffix == ".webp":
        write_clip(file, shades(40, 6), 30)
    else:
        video(file, shades(40, 6), 30, "libvpx" if suffix == ".webm" else "libx264")
    assert taken(read(file, 40, 30), 6) == list(range(40))


def test_frames_without_a_duration_last_a_tenth_of_a_second(tmp_path):
    animated(tmp_path / "a.gif", [0, 0, 0, 0])
    assert taken(read(tmp_path / "a.gif", 4, 10)) == [0, 1, 2, 3]


def test_the_still_of_a_png_is_no_frame(tmp_path):
    """One that only viewers without animation show."""
    first, *others = [Image.fromarray(frame) for frame in shades(4)]
    first.save(tmp_path / "a.png", save_all=True, append_images=others, default_image=True, duration=100)
    assert taken(read(tmp_path / "a.png", 3)) == [1, 2, 3]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_transparent_frames_are_on_white(tmp_path, suffix):
    pixels = np.zeros((2, SIDE, SIDE, 4), np.uint8)
    pixels[0, :8], pixels[1, 8:] = (*RED, 255), (*BLUE, 255)
    pixels[:, [0, 15], [0, 15]] = (*RED, 255)  # Pillow would crop the frames, and forget that they have alpha
    first, other = map(Image.fromarray, pixels)
    options = {"disposal": 2} if suffix == ".gif" else {"disposal": 1} if suffix == ".png" else {}
    options |= {"lossless": True} if suffix == ".webp" else {}
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=[other], **options)
    clip = read(tmp_path / f"a{suffix}", 2)
    assert [tuple(clip[i, j, 8]) for i in (0, 1) for j in (2, 13)] == [RED, WHITE, WHITE, BLUE]


def test_frames_are_cropped_and_resized_as_pictures(tmp_path):
    wide = np.repeat(np.repeat(noise(3, 10, 30), 4, axis=1), 4, axis=2)
    write_clip(tmp_path / "a.webp", wide, 8)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, frame in enumerate(wide):
        Image.fromarray(frame).save(folder / f"{i}.png")
    pictures = open_folder(folder, "train", 8, 0).source.pixels
    np.testing.assert_array_equal(read_clip(tmp_path / "a.webp", 3, 8, 8)[0], pictures)


def test_enlarged_clips_are_reported(tmp_path):
    write_clip(tmp_path / "a.webp", noise(), 8)
    assert read_clip(tmp_path / "a.webp", 12, 32, 8)[1] == ("smaller than 32 x 8 and enlarged",)


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_a_turned_video_is_upright(tmp_path, degrees, turns):
    file = video(tmp_path / "a.mp4", np.stack([halves()] * 3), degrees=degrees)
    error = np.abs(read(file, 3)[0].astype(int) - np.rot90(halves(), turns))
    assert np.median(error) < 10


def test_pixels_of_a_video_become_square(tmp_path):
    """Stored as 16 x 16, shown as 32 x 16: its middle half remains."""
    bars = np.broadcast_to(np.repeat([0, 80, 160, 240], 4).astype(np.uint8)[:, None], (3, SIDE, SIDE, 3))
    shown = read(video(tmp_path / "a.mp4", bars, aspect=Fraction(2)), 3)[0].astype(int)
    np.testing.assert_allclose(shown[:, 2:6].mean(), 80, atol=10)
    np.testing.assert_allclose(shown[:, 10:14].mean(), 160, atol=10)


LARGE = 96
"""Side of the frames of long clips, which would take 264 MiB together."""


def two():
    return np.repeat(np.repeat(shades(2, 100), LARGE // SIDE, axis=1), LARGE // SIDE, axis=2)


def repeated_gif(count):
    content = encoded(two(), 100, ".gif")
    start = content.index(b"!\xf9")
    return content[:start] + content[start:-1] * (count // 2) + b";"


def repeated_webp(count):
    content = encoded(two(), 100, ".webp")
    start = content.index(b"ANMF")
    body = content[12:start] + content[start:] * (count // 2)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def chunk(kind, content):
    """Of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def repeated_png(count):
    rows = [zlib.compress((b"\0" + frame[0].tobytes()) * LARGE) for frame in two()]
    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", LARGE, LARGE, 8, 2, 0, 0, 0))]
    chunks.append(chunk(b"acTL", struct.pack(">II", count, 0)))
    for i in range(count):
        control = struct.pack(">IIIIIHHBB", max(2 * i - 1, 0), LARGE, LARGE, 0, 0, 1, 100, 0, 0)
        data = chunk(b"fdAT", struct.pack(">I", 2 * i) + rows[i % 2]) if i else chunk(b"IDAT", rows[0])
        chunks += [chunk(b"fcTL", control), data]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def repeated_video(count):
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height = stream.width = LARGE
        pair = [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in two()]
        for i in range(count):
            pair[i % 2].pts = i
            container.mux(stream.encode(pair[i % 2]))
        container.mux(stream.encode())
    return content.getvalue()


@pytest.mark.parametrize("make", [repeated_gif, repeated_webp, repeated_png, repeated_video])
def test_ten_thousand_frames_take_little_time_and_memory(tmp_path, make):
    (tmp_path / "long").write_bytes(make(10_000))
    begin, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clip = read(tmp_path / "long", 6)
    spent = time.process_time() - begin
    assert taken(clip, 100) == [1, 0, 1, 0, 1, 0]
    assert spent < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024


def test_only_what_is_needed_is_decoded(tmp_path, monkeypatch):
    """Of a video of 400 frames with a key frame every 8."""
    file, seen = video(tmp_path / "a.mp4", shades(400, 1), 25), []
    decoded = clips_module._decoded

    def counting(film, *rest):
        frames = lambda first: (seen.append(pair[0]) or pair for pair in film.frames(first))  # noqa: E731
        return decoded(replace(film, frames=frames), *rest)

    monkeypatch.setattr(clips_module, "_decoded", counting)
    read(file, 5)
    assert 197 - 8 <= seen[0] <= seen[-1] == 201


def test_a_file_that_would_take_too_long_is_named(tmp_path, monkeypatch):
    write_clip(tmp_path / "a.gif", shades(10), 8)
    monkeypatch.setattr(clips_module, "MOST_PIXELS", 5 * SIDE**2)
    with pytest.raises(
        ValueError, match=r"a\.gif cannot be read, its middle comes after more than 1,280 pixels"
    ):
        read(tmp_path / "a.gif", 4)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".mp4"])
def test_a_huge_clip_is_named(tmp_path, suffix, monkeypatch):
    write_clip(tmp_path / f"a{suffix}", noise(4, 64, 64), 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"cannot be read, Image size \(4096 pixels\) exceeds limit"):
        read(tmp_path / f"a{suffix}", 2)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".mp4", ".mkv", ".avi", ".mov"])
def test_a_cut_file_is_named(tmp_path, suffix):
    file = tmp_path / f"cut{suffix}"
    if suffix in (".mkv", ".avi", ".mov"):
        video(file, noise(12, 64, 64), codec="mpeg4" if suffix == ".avi" else "libx264")
    else:
        write_clip(file, noise(12, 64, 64), 8)
    content = file.read_bytes()
    for kept in (0.02, 0.3, 0.7, 0.97):
        file.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(
            ValueError, match=rf"cut\{suffix} cannot be read, .*: remove it or save"
        ) as caught:
            read(file, 2)
        assert "\n" not in str(caught.value)


def test_a_video_cut_behind_its_index_is_named(tmp_path):
    file = video(tmp_path / "a.mp4", noise(30, 64, 64), movflags="faststart")
    content = file.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    file.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(ValueError, match=r"it ends too early, after [\d,]+ of [\d,]+ bytes: remove it"):
        read(file, 2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a text\n" * 100,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period/></MPD>',
        b"GIF89a",
        b"RIFF\xff\xff\xff\xffWEBPVP8X",
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 40,
        b"\x1a\x45\xdf\xa3\xff" + bytes(100),
        b"\0\0\0\x18ftypmp42" + bytes(100),
        b"RIFF\0\0\0\0AVI LIST" + b"\xff" * 100,
        bytes(1000),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_file_that_is_no_clip_is_named(tmp_path, content, suffix):
    (tmp_path / "other.mp4").touch()
    file = tmp_path / f"a{suffix}"
    file.write_bytes(content)
    begin = time.process_time()
    with pytest.raises(
        ValueError, match=rf"clip .*a\{suffix} cannot be read, .*: remove it or save"
    ) as caught:
        read(file, 2)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("suffix", [".jpg", ".gif", ".png", ".webp", ".avif", ".tif", ".bmp"])
@pytest.mark.parametrize("renamed", [False, True])
def test_a_still_image_is_no_clip(tmp_path, suffix, renamed):
    Image.fromarray(halves()).save(tmp_path / f"a{suffix}")
    file = (tmp_path / f"a{suffix}").rename(tmp_path / ("a.mp4" if renamed else f"a{suffix}"))
    with pytest.raises(ValueError, match="cannot be read, it is a still image, not a clip: remove it"):
        read(file, 1)


def test_the_format_is_told_by_the_content(tmp_path):
    write_clip(tmp_path / "a.webp", noise(), 8)
    np.testing.assert_array_equal(read((tmp_path / "a.webp").rename(tmp_path / "a.mp4"), 12), noise())
    np.testing.assert_array_equal(
        taken(read(video(tmp_path / "b.mp4", shades(9)).rename(tmp_path / "b.gif"), 9)), range(9)
    )


def test_a_video_of_one_frame_is_no_clip(tmp_path):
    with pytest.raises(ValueError, match="it is a still image, not a clip"):
        read(video(tmp_path / "a.mp4", noise(1)), 1)


def test_sound_is_no_clip(tmp_path):
    with pytest.raises(ValueError, match=r"sound\.mp4 cannot be read, it has sound only: remove it"):
        read(sound(tmp_path / "sound.mp4"), 2)
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16_000))
    with pytest.raises(
        ValueError, match=r"sound\.wav cannot be read, it is no GIF, PNG, WebP or video: remove"
    ):
        read(tmp_path / "sound.wav", 2)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_video_without_frames_is_named(tmp_path, suffix):
    with av.open(str(tmp_path / f"a{suffix}"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        container.start_encoding()
    with pytest.raises(
        ValueError, match=r"cannot be read, it (has no frames|has no pictures|is no GIF, PNG, WebP or video)"
    ):
        read(tmp_path / f"a{suffix}", 2)


def test_frames_of_several_sizes_are_named(tmp_path):
    one, other = (video(tmp_path / f"{n}.ts", noise(9, n, n), codec="mpeg2video") for n in (32, 48))
    file = tmp_path / "a.ts"
    file.write_bytes(one.read_bytes() + other.read_bytes())
    with pytest.raises(ValueError, match=r"its frames change from \(32, 32\) to \(48, 48\) pixels"):
        read(file, 16)


def test_frames_larger_than_the_screen_of_a_gif_are_named(tmp_path):
    content = bytearray(encoded(shades(4), 8, ".gif"))
    last = content.rindex(b",\0\0\0\0")
    content[last + 5 : last + 9] = struct.pack("<HH", SIDE, 4 * SIDE)
    (tmp_path / "a.gif").write_bytes(content)
    with pytest.raises(ValueError, match=r"its frames change from \(16, 16\) to \(16, 64\) pixels"):
        read(tmp_path / "a.gif", 4)


def test_damage_in_the_middle_is_named(tmp_path):
    content = bytearray(encoded(noise(12, 64, 64), 8, ".png"))
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png cannot be read, .*: remove it or save it again"):
        read(tmp_path / "a.png", 12)


def test_more_frames_stated_than_there_are(tmp_path):
    """A PNG whose frames are without pictures."""
    content = encoded(noise(2), 8, ".png")
    end = content.index(b"fcTL", content.index(b"fcTL") + 4) - 4
    control = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 2, SIDE, SIDE, 0, 0, 1, 8, 0, 0))
    (tmp_path / "a.png").write_bytes(content[:end] + control * 50 + content[-12:])
    with pytest.raises(ValueError, match=r"a\.png cannot be read, .*: remove it or save it again"):
        read(tmp_path / "a.png", 20)


def test_a_clip_that_is_too_short_is_named(tmp_path):
    write_clip(tmp_path / "a.gif", shades(9), 8)
    with pytest.raises(
        ValueError,
        match=r"a\.gif has 9 frames, fewer than frames = 16: lower --frames, or repeat some by --rate",
    ):
        read(tmp_path / "a.gif", 16)
    assert taken(read(tmp_path / "a.gif", 16, 16)) == [i // 2 for i in range(1, 17)]


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), 1001])
def test_an_impossible_rate_is_rejected(tmp_path, rate):
    with pytest.raises(ValueError, match=r"rate = .*: must be above 0 and at most 1000 frames per second"):
        read(tmp_path / "nowhere.gif", 2, rate)


def test_an_impossible_clip_is_not_written(tmp_path):
    for clip, suffix, rate, says in (
        (noise(), ".jpg", 8, r"suffix '\.jpg': a clip is written as one of \.gif \.webp \.png \.mp4"),
        (noise()[..., :2], ".gif", 8, r"shape \(12, 16, 16, 2\): expected"),
        (noise(), ".gif", 101, r"rate = 101: must be from 0\.1 to 100"),
    ):
        with pytest.raises(ValueError, match=says):
            write_clip(tmp_path / f"a{suffix}", clip, rate)
    assert not list(tmp_path.iterdir())


def test_without_the_extra_one_line_names_it(tmp_path, monkeypatch):
    write_clip(tmp_path / "a.mp4", noise(), 8)
    write_clip(tmp_path / "a.gif", shades(9), 8)
    imported = builtins.__import__

    def without(name, *rest):
        if name == "av":
            raise ModuleNotFoundError("No module named 'av'", name="av")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    says = r"needs? .*an extra: pip install 'jaxflow\[video\]'"
    with pytest.raises(OSError, match=says):
        read(tmp_path / "a.mp4", 2)
    with pytest.raises(OSError, match=says):
        open_clips(tmp_path, "train", 8, 4, hold_out=0)
    with pytest.raises(OSError, match=says):
        write_clip(tmp_path / "b.mp4", noise(), 8)
    assert len(read(tmp_path / "a.gif", 9)) == 9


def fill(directory, names, frames=8, rate=8):
    for i, name in enumerate(names):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        write_clip(directory / name, np.full((frames, SIDE, SIDE, 3), i, np.uint8), rate)
    return names


def test_a_subfolder_for_each_class(tmp_path):
    names = fill(tmp_path, [f"{name}/{i}.webp" for name in ("cat", "dog") for i in range(8)])
    both = [open_clips(tmp_path, split, 8, 4) for split in ("train", "test")]
    for dataset in both:
        assert (dataset.codec, dataset.image_shape) == (Classes(("cat", "dog")), (4, 8, 8, 3))
        for file, example in zip(dataset.source.files, dataset.source, strict=True):
            assert (example["image"] == names.index(file.relative_to(tmp_path).as_posix())).all()
            assert dataset.codec.names[example["label"]] == file.parent.name
    assert sum(map(len, both)) == len(names)
    assert len(open_clips(tmp_path, "train", 8, 4, hold_out=0)) == len(names)


def test_captions_are_next_to_the_clips(tmp_path):
    for name in fill(tmp_path, [*named(3, ".gif"), *named(3, ".png"), *named(1, ".webp", train=False)]):
        (tmp_path / name).with_suffix(".txt").write_text("a dot moves left")
    train, test = (open_clips(tmp_path, split, 8, 4) for split in ("train", "test"))
    assert isinstance(train.codec, Captions)
    assert (train.codec, len(test)) == (test.codec, 1)
    assert {example["caption"] for example in train.source} == {"a dot moves left"}


def test_a_flat_folder_is_one_class_of_clips(tmp_path):
    fill(tmp_path, named(4, ".gif"))
    dataset = open_clips(tmp_path, "train", 32, 4, rate=4)
    assert dataset.codec == Classes(("clip",))
    assert dataset.notes == (
        "4 clips to train on, 0 held out as test (hold_out = 0.1)",
        "classes: clip (4)",
        "smaller than 32 x 32 and enlarged: 4",
    )


def test_resident_and_streamed_clips_are_the_same(tmp_path, monkeypatch):
    fill(tmp_path, [f"{name}/{i}.webp" for name in ("cat", "dog") for i in range(4)])
    kept = open_clips(tmp_path, "train", 8, 4, 8, 0)
    monkeypatch.setattr(reading, "RESIDENT_BYTES", 0)
    streamed = open_clips(tmp_path, "train", 8, 4, 8, 0)
    assert streamed.source.pixels is None
    np.testing.assert_array_equal(load(kept)["image"], load(streamed)["image"])
    assert kept.fingerprint == streamed.fingerprint
    stream = batches(streamed, seed=0, batch_size=4, resident=False)
    assert next(stream)["image"].shape == (4, 4, 8, 8, 3)


def test_the_fingerprint_depends_on_the_rate(tmp_path):
    fill(tmp_path, named(2, ".gif"))
    assert len({open_clips(tmp_path, "train", 8, 4, rate).fingerprint for rate in (None, 4, 8)}) == 3


def test_all_damaged_clips_are_named_at_once(tmp_path):
    names = fill(tmp_path, named(4, ".gif"))
    write_clip(tmp_path / names[1], shades(3), 8)
    (tmp_path / names[2]).write_bytes(b"")
    with pytest.raises(
        ValueError, match=rf"{names[1]} has 3 frames.*{names[2]} cannot be .*\(2 clips in all"
    ):
        open_clips(tmp_path, "train", 8, 8)


def test_no_clip_and_impossible_sizes(tmp_path):
    Image.fromarray(halves()).save(tmp_path / "a.jpg")
    with pytest.raises(
        FileNotFoundError, match=r"no clip is in it, only 1 \.jpg; supported are \.apng \.avi"
    ):
        open_clips(tmp_path, "train", 8, 4)
    for size, frames in ((0, 4), (8, 0), (4096, 16)):
        with pytest.raises(ValueError, match=f"frames = {frames}, image_size = {size}: must be at least 1"):
            open_clips(tmp_path, "train", size, frames)
    with pytest.raises(ValueError, match="split 'val' of data set 'clips'"):
        open_clips(tmp_path, "val", 8, 4)


def test_bytes_of_a_clip_are_those_of_its_file(tmp_path):
    write_clip(tmp_path / "a.gif", noise(), 8)
    assert (tmp_path / "a.gif").read_bytes() == encoded(noise(), 8, ".gif")
    with Image.open(io.BytesIO(encoded(noise(), 8, ".gif"))) as picture:
        assert picture.info["loop"] == 0
