"""The surroundings of a command: libraries kept quiet or offline, our own warnings shown once each."""

import logging
import os
import warnings

from maskwright.cli.guard import say

QUIET = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class WarningLines(logging.Handler):
    """Writes each warning of the package once, as one line on stderr."""

    def __init__(self) -> None:
        """Has printed nothing yet."""
        super().__init__(logging.WARNING)
        self.seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a message that was not printed before."""
        text = " ".join(record.getMessage().split())
        if text not in self.seen:
            self.seen.add(text)
            say(f"warning: {text}")


def prepare(*, offline: bool = False) -> None:
    """Sets what the libraries read when they are imported, hence to be called before any of them is.

    What the user has set in the environment stays as it is.
    """
    for name, value in (QUIET | OFFLINE if offline else QUIET).items():
        if offline and name in OFFLINE:
            os.environ[name] = value
        else:
            os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module=r"(diffusers|transformers|huggingface_hub|accelerate|torch)\b")
    logger = logging.getLogger("maskwright")
    logger.propagate = False
    for handler in [handler for handler in logger.handlers if isinstance(handler, WarningLines)]:
        logger.removeHandler(handler)  # a second command in one process tells its warnings again
    logger.addHandler(WarningLines())
