"""Keeps diffusers and transformers from talking while they load."""

import contextlib
import logging
from collections.abc import Iterator
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def quiet(*libraries: ModuleType) -> Iterator[None]:
    """Holds back the bars, advice and warnings of diffusers or transformers; errors pass. Every setting is left as it was."""
    voices: list[Any] = [library.utils.logging for library in libraries]  # their functions are untyped
    before = [(voice, voice.get_verbosity(), voice.is_progress_bar_enabled()) for voice in voices]
    for voice, _, bars in before:
        voice.set_verbosity(logging.ERROR)
        if bars:
            voice.disable_progress_bar()
    try:
        yield
    finally:
        for voice, verbosity, bars in before:
            voice.set_verbosity(verbosity)
            if bars:
                voice.enable_progress_bar()
