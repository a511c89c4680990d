"""Which tokens a stretch of text became, found by character offsets."""

import re
from collections.abc import Sequence

Offsets = Sequence[tuple[int, int]]


def token_span(offsets: Offsets, start: int, end: int) -> tuple[int, ...]:
    """Positions of the tokens that cover any of the characters start..end-1.

    Begin, end and padding tokens have the empty offset (0, 0) and are never among them.
    """
    return tuple(position for position, (a, b) in enumerate(offsets) if a < b and a < end and b > start)


def extend_over_participle(text: str, end: int) -> int:
    """Moves `end` over a following word in "-ing": "a dog| running" to "a dog running|" (DiffSegmenter)."""
    following = re.match(r"\s+\w+ing\b", text[end:])
    return end + following.end() if following else end
