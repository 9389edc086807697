from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggrpc.errors import ConfigError
from ggrpc.units import format_age, format_ms, format_size, parse_age, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("512M", 512 << 20),
        ("512m", 512 << 20),
        ("4G", 4 << 30),
        ("4GiB", 4 << 30),
        (" 1.5 GiB ", 3 << 29),
        ("0.5K", 512),
        ("2T", 2 << 40),
        ("18446744073709551615", (1 << 64) - 1),
    ],
)
def test_parse_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "4GB", "1e9", "4 G B", "1.", "nan"])
def test_invalid_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 512M"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (25_276_514_304, "23.5 GiB"),
        ((1 << 64) - 1, "16.0 EiB"),
        (1 << 70, "1024.0 EiB"),
    ],
)
def test_format_size(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 1 << 63))
def test_parse_size_reverses_format_size(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= size / 20


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0.081, "0.08 ms"), (9.5, "9.50 ms"), (12.34, "12.3 ms"), (4999, "4999.0 ms")],
)
def test_format_ms(milliseconds: float, text: str) -> None:
    assert format_ms(milliseconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1.5h", 5400), ("30d", 2_592_000), ("8w", 4838400)],
)
def test_parse_age(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "3 years"])
def test_invalid_age_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid age"):
        parse_age(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 m"), (90_000, "25 h"), (10**7, "16 w")],
)
def test_format_age_uses_the_largest_unit(seconds: float, text: str) -> None:
    assert format_age(seconds) == text
