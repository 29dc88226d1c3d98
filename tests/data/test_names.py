import pytest

from jaxflow.data.names import display_width, wrapped

CHINESE = "红色圆形在蓝色方块左边，背景（很大）是一片绿色的草地。"
MIXED = "一个 red circle 在 (blue square) 左边，w = 3.5 的 guidance"


@pytest.mark.parametrize(
    "text", [CHINESE, MIXED, "a picture of which so very much is said " * 5, "x" * 50, ""]
)
@pytest.mark.parametrize("columns", [10, 22, 23])
def test_lines_keep_their_width_and_lose_nothing(text, columns):
    rows = wrapped(text, columns)
    assert all(display_width(row) <= columns for row in rows)
    assert "".join(rows).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("columns", range(8, 30))
def test_no_line_of_chinese_starts_with_a_comma_or_ends_with_an_opening_bracket(columns):
    rows = wrapped(CHINESE, columns)
    assert "".join(rows) == CHINESE
    assert not any(row[0] in "，。）" or row[-1] == "（" for row in rows)
    assert all(display_width(row) > columns - 6 for row in rows[:-1])  # pairs that stay together are 4 wide


@pytest.mark.parametrize("text", [CHINESE, MIXED])
def test_what_is_cut_ends_in_dots(text):
    rows = wrapped(text, 12, most=2)
    assert len(rows) == 2
    assert rows[1].endswith(" ...")
    assert all(display_width(row) <= 12 for row in rows)
    assert text.replace(" ", "").startswith("".join(rows)[:-4].replace(" ", ""))
