"""Whatever goes wrong in a command becomes one line on stderr and an exit code."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec

import typer

from maskwright.errors import MaskwrightError

P = ParamSpec("P")
FAILED, INTERRUPTED = 1, 130
SHOW_TRACEBACKS = bool(os.environ.get("MASKWRIGHT_TRACEBACK"))  # for whoever looks for a bug


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Wraps the body of a command. typer's own errors (a wrong option: exit code 2) do not come by here."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()  # a reader that went away is noticed here, not while the interpreter ends
        except typer.Exit:
            raise
        except BrokenPipeError:
            _close_quietly()
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:  # noqa: BLE001 - no user gets a traceback that was not asked for
            _fail(error)

    return wrapper


def say(line: str) -> None:
    """One line on stderr."""
    with contextlib.suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)


def _fail(error: Exception) -> NoReturn:
    if SHOW_TRACEBACKS:
        raise error
    say(f"error: {explain(error)}")
    raise typer.Exit(FAILED)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on whatever device."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def explain(error: Exception) -> str:
    """One line for an error of any kind."""
    text = " ".join(str(error).split())
    if isinstance(error, MaskwrightError):
        return text
    if is_out_of_memory(error):
        return "out of memory: try --batch 1, --dtype bfloat16, fewer labels or smaller pictures"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f': {error.filename!r}' if error.filename else ''}"
    kind = type(error).__name__
    return f"unexpected {kind}: {text[:300]} (please report this; with MASKWRIGHT_TRACEBACK=1 set, it shows where it came from)"


def _close_quietly() -> None:
    """Points stdout at nothing, so that what is still buffered does not fail again when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
