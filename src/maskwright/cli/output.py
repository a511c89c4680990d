"""What the commands say that take pictures: JSON lines or tables on stdout, everything else on stderr."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.cli.guard import say
from maskwright.cli.progress import Bar
from maskwright.errors import MaskwrightError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from maskwright.segmentation import Segmentation

MOST_NAMES = 12  # labels without a pixel that are listed by name


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON object on one line, in ASCII so that every terminal and pipe takes it."""
    print(json.dumps(document, allow_nan=False), flush=True)


class Reporter:
    """Tells what happens to the pictures of a run, and counts.

    Args:
        kinds: what the files of a picture are called in JSON, in their order, the JSON file last.
        show: what is printed of a result between its picture and its files.
        as_json: print JSON lines instead.
        quiet: print neither, and no notes.

    Attributes:
        done, kept, failed: pictures so far.
        bar: shown meanwhile.
    """

    def __init__(
        self, kinds: Sequence[str], show: Callable[[Any], "Iterator[RenderableType]"], *, as_json: bool, quiet: bool
    ) -> None:  # fmt: skip
        self.kinds, self.show, self.as_json, self.quiet = kinds, show, as_json, quiet
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
            print_json({**document, "files": self._named(files)})

    def finish(self, result: Any, files: Sequence[Path]) -> None:
        """A picture that is done, its files written."""
        self.done += 1
        with self.bar.aside():
            if self.as_json:
                document = json.loads(files[-1].read_text(encoding="utf-8"))
                print_json({**document, "files": self._named(files)})
            elif not self.quiet:
                self._print(result, files)
        self.bar.advance()

    def _named(self, files: Sequence[Path]) -> dict[str, str]:
        return dict(zip(self.kinds, map(os.fspath, files), strict=True))

    def _print(self, result: Any, files: Sequence[Path]) -> None:
        """The picture, what was found in it, and the files."""
        from rich.console import Console
        from rich.text import Text

        console = Console(file=sys.stdout, highlight=False)
        height, width = result.picture.size
        if self.done > 1:
            console.print()
        console.print(Text(f"{result.picture.source} ({width} x {height})", style="bold"), soft_wrap=True)
        for part in self.show(result):
            console.print(part, soft_wrap=isinstance(part, Text))
        for path in files:
            console.print(Text(f"  {path}"), soft_wrap=True)


def start_table(first: str, *numbers: str) -> Any:
    """A rich table with a column of names and columns of numbers."""
    from rich.table import Table

    table = Table(first, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def show_segmentation(result: "Segmentation", *, scored: bool = True) -> "Iterator[RenderableType]":
    """Label, share and, where scores tell something, mean score of what was found, and what was not found."""
    from rich.text import Text

    table = start_table(*(("label", "share", "mean score") if scored else ("region", "share")))
    found = sorted((region for region in result.regions if region.area), key=lambda region: -region.area)
    for region in found:
        table.add_row(Text(region.name), f"{region.share:.1%}", *([f"{region.score:.3f}"] if scored else []))
    rest = 1 - sum(region.share for region in found)
    if rest > 1e-9 or not found:
        table.add_row(Text("background", style="dim"), f"{rest:.1%}")
    yield table
    if absent := [region.name for region in result.regions if not region.area]:
        more = f" and {len(absent) - MOST_NAMES} more" if len(absent) > MOST_NAMES else ""
        yield Text(f"not found: {', '.join(absent[:MOST_NAMES])}{more}", style="dim")
