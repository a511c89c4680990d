"""What `segment` says: JSON lines or tables on stdout, everything else on stderr."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.cli.guard import say
from maskwright.cli.progress import Bar
from maskwright.errors import MaskwrightError

if TYPE_CHECKING:
    from maskwright.segmentation import Segmentation

MOST_NAMES = 12  # labels without a pixel that are listed by name


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON object on one line, in ASCII so that every terminal and pipe takes it."""
    print(json.dumps(document, allow_nan=False), flush=True)


class Reporter:
    """Tells what happens to the pictures of a run, and counts.

    Attributes:
        done, kept, failed: pictures so far.
        bar: shown meanwhile.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        """Prints JSON lines or, unless `quiet`, tables and notes."""
        self.as_json, self.quiet = as_json, quiet
        self.done = self.kept = self.failed = 0
        self.bar = Bar()

    def note(self, text: str) -> None:
        """Something worth knowing that is no warning."""
        if not self.quiet:
            say(text)

    def refuse(self, error: MaskwrightError) -> None:
        """An input that cannot be used."""
        self.failed += 1
        self.bar.advance()
        say(f"error: {error}")

    def keep(self, document: Mapping[str, Any], files: Sequence[Path]) -> None:
        """A picture that an earlier run has done."""
        self.kept += 1
        if self.as_json:
            print_json({**document, "files": _named(files)})

    def finish(self, result: "Segmentation", files: Sequence[Path]) -> None:
        """A picture that is done, its files written."""
        self.done += 1
        with self.bar.aside():
            if self.as_json:
                document = json.loads(files[-1].read_text(encoding="utf-8"))
                print_json({**document, "files": _named(files)})
            elif not self.quiet:
                _print_table(result, files, apart=self.done > 1)
        self.bar.advance()


def _named(files: Sequence[Path]) -> dict[str, str]:
    return dict(zip(("labels", "overlay", "json"), map(os.fspath, files), strict=True))


def _print_table(result: "Segmentation", files: Sequence[Path], *, apart: bool) -> None:
    """Label, share and mean score of what was found, what was not found, and the files."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    height, width = result.picture.size
    if apart:
        console.print()
    console.print(Text(f"{result.picture.source} ({width} x {height})", style="bold"), soft_wrap=True)
    table = Table("label", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("share", "mean score"):
        table.add_column(heading, justify="right")
    found = sorted((region for region in result.regions if region.area), key=lambda region: -region.area)
    for region in found:
        table.add_row(Text(region.name), f"{region.share:.1%}", f"{region.score:.3f}")
    rest = 1 - sum(region.share for region in found)
    if rest > 1e-9 or not found:
        table.add_row(Text("background", style="dim"), f"{rest:.1%}", "")
    console.print(table)
    if absent := [region.name for region in result.regions if not region.area]:
        more = f" and {len(absent) - MOST_NAMES} more" if len(absent) > MOST_NAMES else ""
        console.print(Text(f"not found: {', '.join(absent[:MOST_NAMES])}{more}", style="dim"), soft_wrap=True)
    for path in files:
        console.print(Text(f"  {path}"), soft_wrap=True)
