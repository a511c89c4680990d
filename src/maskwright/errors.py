"""Typed errors. Each message is one line that says what is wrong and how to mend it; the command line prints it as it is."""


class MaskwrightError(Exception):
    """Base of every error that a user can cause."""


class ImageError(MaskwrightError):
    """A picture that cannot be read."""


class TooLargeError(ImageError):
    """A picture of more pixels than are allowed."""


class DatasetError(MaskwrightError):
    """A data set that does not lie on disk as it should."""


class VocabularyError(MaskwrightError):
    """Labels that cannot be used."""


class ModelError(MaskwrightError):
    """A model that cannot be found, loaded or read."""


class NumberError(ModelError):
    """A picture for which a model gave NaN or infinity."""


class SettingsError(MaskwrightError):
    """An option whose value cannot be used."""


class OutputError(MaskwrightError):
    """A result that cannot be written."""


class MissingExtraError(MaskwrightError):
    """An optional package that is not installed."""

    def __init__(self, package: str, *, purpose: str, extra: str | None = None) -> None:
        """Names the package, what it is for and the pip command that brings it."""
        target = f'"maskwright[{extra}]"' if extra else package
        super().__init__(f"{purpose} needs the package {package}: pip install {target}")


def brief(error: Exception) -> str:
    """An error as part of one line: the first line of its message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    text = " ".join(lines[0].split()).rstrip(".:") if lines else type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
