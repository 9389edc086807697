"""Parses and formats sizes and durations with their units.

Units of size are powers of 1024, as in llama.cpp's own tools: 4G is 4 GiB.
"""

from __future__ import annotations

import re

from ggrpc.errors import ConfigError

PREFIXES = "KMGTPE"
AGES = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:B|([KMGTPE])(?:iB)?)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Parse a size such as `0`, `512M` or `1.5GiB` into bytes.

    Raises:
        ConfigError: the text is not a size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(
            f"'{text}' is not a valid size: write a number of bytes, or a number with "
            "the unit K, M, G or T, such as 512M"
        )
    number, prefix = found.groups()
    power = PREFIXES.index(prefix.upper()) + 1 if prefix else 0
    return (
        int(float(number) * 1024**power)
        if "." in number
        else int(number) << (10 * power)
    )


def format_size(size: int) -> str:
    """Format a size in bytes: `17 B`, `23.5 GiB`."""
    if size < 1024:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, len(PREFIXES))
    # A value that rounds up to 1024.0 is shown as 1.0 of the next unit.
    if round(size / 1024**power, 1) == 1024 and power < len(PREFIXES):
        power += 1
    return f"{size / 1024**power:.1f} {PREFIXES[power - 1]}iB"


def parse_age(text: str) -> float:
    """Parse an age such as `90s`, `12h`, `30d` or `8w` into seconds.

    Raises:
        ConfigError: the text is not an age.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if found is None:
        raise ConfigError(
            f"'{text}' is not a valid age: write a number with the unit s, m, h, d or "
            "w, such as 30d"
        )
    return float(found[1]) * AGES[found[2]]


def format_age(seconds: float) -> str:
    """Format seconds in the largest unit that gives at least 2: `17 s`, `36 h`."""
    fitting = [unit for unit, length in AGES.items() if seconds >= 2 * length]
    unit = (fitting or ["s"])[-1]
    return f"{seconds // AGES[unit]:.0f} {unit}"


def format_ms(milliseconds: float) -> str:
    """Format a duration in milliseconds: `0.08 ms`, `12.3 ms`."""
    digits = 2 if milliseconds < 10 else 1
    return f"{milliseconds:.{digits}f} ms"
