import hashlib
import re

import pytest

from shared.model import KEY_PATTERN, SLUG_PATTERN, Point, PointClass, PointSet, PointType

POINTS = PointSet(
    (Point("a/b", "W"), Point("c", "", PointType.TEXT, PointClass.ALERT)),
)


def msgpack_by_hand(rows: list[list[str]]) -> bytes:
    """The shortest encodings, as docs/reference/link.md asks: fixarray, fixstr, str 8."""
    out = bytes([0x90 | len(rows)])
    for row in rows:
        out += bytes([0x90 | len(row)])
        for text in row:
            octets = text.encode()
            short = bytes([0xA0 | len(octets)])
            out += (short if len(octets) < 32 else bytes([0xD9, len(octets)])) + octets
    return out


def test_the_hash_is_that_of_the_documented_bytes() -> None:
    packed = msgpack_by_hand([["a/b", "W", "number", "normal"], ["c", "", "text", "alert"]])
    assert POINTS.hash == hashlib.sha256(packed).digest()


def test_a_long_key_is_hashed_as_documented() -> None:
    points = PointSet((Point("k" * 200, "°C"),))
    packed = msgpack_by_hand([["k" * 200, "°C", "number", "normal"]])
    assert points.hash == hashlib.sha256(packed).digest()


def test_rows_give_the_point_set_back() -> None:
    again = PointSet.from_rows(POINTS.rows())
    assert again == POINTS
    assert again.hash == POINTS.hash


@pytest.mark.parametrize(
    "points",
    [
        POINTS.points[::-1],
        POINTS.points[:1],
        (Point("a/b", "kW"), POINTS.points[1]),
        (Point("a/b", "W", PointType.BOOLEAN), POINTS.points[1]),
        (Point("a/b", "W", klass=PointClass.LOW), POINTS.points[1]),
    ],
)
def test_order_and_every_part_of_a_point_change_the_hash(points: tuple[Point, ...]) -> None:
    assert PointSet(points).hash != POINTS.hash


@pytest.mark.parametrize(
    "row", [["a", "", "tag", "normal"], ["a", "", "number", "urgent"], ["a", "", "number"]]
)
def test_rows_of_another_shape_are_refused(row: list[str]) -> None:
    with pytest.raises(ValueError, match=r"tag|urgent|unpack"):
        PointSet.from_rows([row])


@pytest.mark.parametrize("key", ["a", "ahu1/supply_temp", "A-1.b:c~d/e_f"])
def test_keys_as_documented_are_taken(key: str) -> None:
    assert re.fullmatch(KEY_PATTERN, key)


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "a b", "ä", "a\n"])
def test_other_keys_are_not(key: str) -> None:
    assert not re.fullmatch(KEY_PATTERN, key)


@pytest.mark.parametrize(
    ("slug", "is_slug"),
    [
        ("demo", True),
        ("a1_b", True),
        ("1a", False),
        ("A", False),
        ("a" * 41, False),
        ("a.b", False),
    ],
)
def test_a_slug_is_a_short_lower_case_name(slug: str, *, is_slug: bool) -> None:
    assert bool(re.fullmatch(SLUG_PATTERN, slug)) is is_slug
