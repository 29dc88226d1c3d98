"""Captions are read from where people keep them, and never from two places."""

import json

import pytest

from jaxflow.data.sidecars import read_captions


@pytest.fixture
def read(tmp_path):
    """Writes files, and reads the captions of the images among them."""

    def read(**contents):
        for name, content in contents.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        names = sorted(
            file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()
        )
        images = [name for name in names if name.lower().endswith((".png", ".jpg"))]
        return read_captions(images, {name: tmp_path / name for name in names})

    return read


IMAGES = {"1.png": "", "in/2.jpg": ""}


def rows(*texts, column="text"):
    return "".join(
        json.dumps({"file_name": name, column: text}) + "\n" for name, text in zip(IMAGES, texts, strict=True)
    )


@pytest.mark.parametrize(
    "files",
    [
        {"1.txt": "a cat\n", "in/2.txt": "a dog"},
        {"1.TXT": "a cat", "in/2.txt": "a\n dog"},
        {"1.caption": "a cat", "in/2.caption": "a dog"},
        {"1.png.txt": "a cat", "in/2.jpg.txt": "a dog"},
        {"1.png.caption": "a cat", "in/2.jpg.caption": "a dog"},
        {"metadata.jsonl": rows("a cat", "a dog")},
        {"metadata.jsonl": "\ufeff" + rows("a cat", "a dog", column="caption") + "\n"},
        {"metadata.csv": "file_name,text\r\n1.png,a cat\r\nin/2.jpg,a dog\r\n"},
        {"metadata.csv": 'text,id,file_name\n"a cat",7,./1.png\n"a\ndog",8,in/2.jpg\n'},
        {"metadata.csv": "file_name,text\n1.png,a cat\n", "in/metadata.csv": "file_name,text\n2.jpg,a dog\n"},
    ],
)
def test_captions_are_read_from(read, files):
    found = read(**IMAGES, **files)
    assert found.captions == {"1.png": "a cat", "in/2.jpg": "a dog"}
    assert found.files == set(files)
    assert not found.notes


@pytest.mark.parametrize(
    ("files", "kinds"),
    [
        ({"1.txt": "a", "1.caption": "b"}, "NAME.txt and as NAME.caption"),
        ({"1.txt": "a", "1.png.txt": "b"}, "NAME.txt and as NAME.jpg.txt"),
        ({"1.txt": "a", "metadata.jsonl": rows("a", "b")}, "NAME.txt and as metadata.jsonl"),
        (
            {"metadata.csv": "file_name,text\n1.png,a", "metadata.jsonl": rows("a", "b")},
            "metadata.csv and as meta",
        ),
    ],
)
def test_captions_of_two_kinds_are_rejected(read, files, kinds):
    with pytest.raises(ValueError, match=f"captions are given twice, as {kinds}.*: keep one kind"):
        read(**IMAGES, **files)


def test_the_case_of_a_name_may_differ_if_it_is_clear(read):
    assert read(**{"IMG_1.PNG": "", "img_1.txt": "a cat"}).captions == {"IMG_1.PNG": "a cat"}
    both = read(**{"A.png": "", "a.png": "", "A.txt": "upper", "a.txt": "lower"}).captions
    assert both["A.png"], both["a.png"] == ("upper", "lower")


def test_images_of_one_name_share_their_caption(read):
    assert read(**{"1.png": "", "1.jpg": "", "1.txt": "a cat"}).captions == {
        "1.png": "a cat",
        "1.jpg": "a cat",
    }


def test_captions_are_cleaned(read):
    text = "\ufeff\n  a cafe\u0301 \r\n\n in\x07 \u2028 Paris\n"
    assert read(**{"1.png": "", "1.txt": text}).captions == {"1.png": "a caf\u00e9 in Paris"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b" \n", "is empty"),
        (b"caf\xe9", "is not UTF-8"),
        ("a cat".encode("utf-16"), "is not UTF-8"),
        ("a cat".encode("utf-16-le"), "is not UTF-8"),
        (b"a " * 40_000, "has more than 65,536 bytes"),
    ],
)
def test_captions_that_cannot_be_read_are_named(read, content, says):
    with pytest.raises(ValueError, match=rf"^caption 1\.txt {says}"):
        read(**{"1.png": "", "1.txt": content})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (rows("a", "b") + "{", r"metadata\.jsonl, line 3: expected a JSON object"),
        (rows("a", "b") + "3", r"metadata\.jsonl, row 3: expected a 'file_name' and a 'text'"),
        (rows("a", " "), r"metadata\.jsonl, row 2: expected a 'file_name' and a 'text'"),
        (rows("a", "b") * 2, r"metadata\.jsonl, row 3: 1\.png has two captions"),
        (b"\xff\xfe", r"metadata\.jsonl cannot be read, .*save it as UTF-8"),
    ],
)
def test_rows_that_cannot_be_read_are_named(read, content, says):
    with pytest.raises(ValueError, match=f"^{says}"):
        read(**IMAGES, **{"metadata.jsonl": content})


def test_a_table_of_something_else_is_ignored_and_named(read):
    found = read(**IMAGES, **{"metadata.csv": "file_name,label\n1.png,3\n"})
    assert not found.captions
    assert found.notes == ["metadata.csv is ignored: its first row has no 'file_name' and 'text'"]


def test_rows_without_their_image_are_counted(read):
    table = rows("a", "b") + json.dumps({"file_name": "gone.png", "text": "c"})
    found = read(**IMAGES, **{"metadata.jsonl": table})
    assert found.captions == {"1.png": "a", "in/2.jpg": "b"}
    assert found.notes == ["metadata.jsonl names 1 images that are not in the folder"]
