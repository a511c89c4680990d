"""The catalogue of named models: rows of catalog.toml."""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskwright.errors import ModelError

ASSETS = Path(__file__).parent.parent / "assets"


@dataclass(frozen=True)
class CatalogRow:
    """One named model.

    Attributes:
        name: short name, e.g. "sd15".
        title: what it is.
        licence: of the weights.
        gated: whether the hub asks for an agreement and a token.
        native: pixels a side at which it was trained.
        prediction: "epsilon" or "v_prediction".
        repository: hub id; empty for a bundled model.
        revision: pinned commit; empty when none is known.
        bundled: folder inside the package's assets; empty for a hub model.
        synthesis: what suits it when it draws, as in `ModelInfo`; a sidecar's own settings come before.
    """

    name: str
    title: str
    licence: str
    gated: bool
    native: int
    prediction: str
    repository: str = ""
    revision: str = ""
    bundled: str = ""
    synthesis: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def folder(self) -> Path | None:
        """Where a bundled model lies."""
        return ASSETS / self.bundled if self.bundled else None


@functools.cache
def catalog() -> dict[str, CatalogRow]:
    """All rows by name."""
    table = tomllib.loads((Path(__file__).parent / "catalog.toml").read_text(encoding="utf-8"))
    return {name: CatalogRow(name=name, **row) for name, row in table.items()}


def find_row(name: str) -> CatalogRow:
    """The row of a name.

    Raises:
        ModelError: listing the names there are.
    """
    rows = catalog()
    if name not in rows:
        raise ModelError(f"unknown model {name!r}: choose one of {', '.join(rows)}, or give a hub id (owner/name) or a local folder")
    return rows[name]
