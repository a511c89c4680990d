"""A progress bar on stderr, only on a terminal and only where there is something to wait for."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """What a loop tells of its progress; does nothing where no bar is shown."""

    def __init__(self, progress: "Progress | None" = None, *, total: int = 0) -> None:
        """Shows `total` things to do in a rich progress display, or nothing without one."""
        self._progress = progress
        self._task = progress.add_task("", total=total) if progress else None

    def advance(self) -> None:
        """One more is done, for good or ill."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Takes the bar away while something is written to stdout, which may be the same terminal."""
        if self._progress is not None:
            self._progress.stop()
        yield
        if self._progress is not None:
            self._progress.start()


@contextlib.contextmanager
def progress_bar(total: int, *, unit: str, quiet: bool = False) -> Iterator[Bar]:
    """A bar for so many things, from the second on.

    Args:
        total: how many.
        unit: what they are called, "pictures".
        quiet: show none.
    """
    if quiet or total < 2 or not sys.stderr.isatty():
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    console = Console(stderr=True)
    # stdout is left alone: rich would send it to its own console, and JSON lines with it
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        yield Bar(progress, total=total)
