"""Keeps diffusers and transformers from talking while they load."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back both libraries' bars, advice and warnings; errors pass. Every setting is left as it was."""
    import diffusers
    import transformers

    libraries: list[Any] = [diffusers.utils.logging, transformers.utils.logging]  # their functions are untyped
    before = [(library, library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library, _, bars in before:
        library.set_verbosity(logging.ERROR)
        if bars:
            library.disable_progress_bar()
    try:
        yield
    finally:
        for library, verbosity, bars in before:
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()
