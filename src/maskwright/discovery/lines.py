"""pairs.jsonl: a batch of pairs as lines, and lines as pairs.

A batch is on disk when all of its lines are. Each line counts in "batch_left" how many lines of its batch follow, so that a file
that ends anywhere, even in the middle of a line, tells where its last whole batch ends: the model draws a batch together, and a
batch that is drawn again alone must be the same batch.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from maskwright.discovery.pairs import Pair
from maskwright.errors import OutputError


def to_lines(batch: Sequence[Pair], origin: Mapping[str, Any]) -> bytes:
    """One line of strict JSON for each pair.

    Args:
        batch: what was drawn together.
        origin: what all pairs share; its "model", "revision" and "method" are repeated in every line.
    """
    rows = (_to_row(pair, origin, len(batch) - place) for place, pair in enumerate(batch, start=1))
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode("utf-8", "backslashreplace")


def read_lines(content: bytes) -> tuple[list[Pair], int]:
    """The pairs of all whole batches, and how many bytes they take; what follows was being written when the program ended.

    Raises:
        OutputError: a line in the middle that is no pair.
    """
    pairs: list[Pair] = []
    batch: list[Pair] = []
    position = end = 0
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):  # what follows the last line break is torn
        try:
            pair, left = _from_row(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"line {number} of pairs.jsonl is damaged: restore the file, or choose another folder with --out") from error
        position += len(line) + 1
        batch.append(pair)
        if not left:
            pairs += batch
            batch = []
            end = position
    return pairs, end


def _to_row(pair: Pair, origin: Mapping[str, Any], left: int) -> dict[str, Any]:
    return {
        "number": pair.number,
        "attempt": pair.attempt,
        "image": f"images/{pair.stem}.png" if pair.kept else None,
        "mask": f"masks/{pair.stem}.png" if pair.kept else None,
        "prompt": pair.prompt,
        "labels": list(pair.labels),
        "seed": pair.seed,
        **{key: origin.get(key) for key in ("model", "revision", "method")},
        "scores": [{"label": label, **{key: float(value) for key, value in row.items()}} for label, row in pair.scores.items()],
        "kept": pair.kept,
        "reasons": list(pair.reasons),
        "batch_left": left,
    }


def _from_row(row: dict[str, Any]) -> tuple[Pair, int]:
    pair = Pair(
        number=row["number"],
        attempt=row["attempt"],
        prompt=row["prompt"],
        labels=tuple(row["labels"]),
        seed=row["seed"],
        scores={scores.pop("label"): scores for scores in row["scores"]},
        kept=row["kept"],
        reasons=tuple(row["reasons"]),
    )
    return pair, row["batch_left"]
