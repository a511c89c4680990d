"""Chance that depends on what is asked alone: the same question gets the same number, on every machine and whatever was asked before."""

import hashlib

BITS = 63  # what both torch and a signed 64-bit integer can hold


def mix(*parts: int | str) -> int:
    """A number of 63 bits for texts and whole numbers, in which each bit depends on all of them.

    NumPy's and Python's generators may draw other numbers in another version; this digest cannot.
    """
    text = "\0".join(f"{type(part).__name__}{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - BITS)


def pair_seed(seed: int, number: int, attempt: int) -> int:
    """Seed of one attempt's noise.

    Args:
        seed: of the whole data set.
        number: place of the pair in it.
        attempt: how often this place was tried before.
    """
    return mix("pair", seed, number, attempt)


def shuffled(count: int, *parts: int | str) -> list[int]:
    """The numbers 0..count-1 in an order that depends on `parts`."""
    return sorted(range(count), key=lambda number: mix("order", *parts, number))
