"""Finding a data set's files; whatever is missing gives one line that says what is expected where, and how to get it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwright.datasets.masks import quote
from maskwright.errors import DatasetError, brief


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk, in words; the methods look for its parts.

    Attributes:
        title: its full name.
        expected: its files below the folder that the user names.
        source: the official download.
    """

    title: str
    expected: str
    source: str

    def error(self, found: str) -> DatasetError:
        """What was found, what is expected, how to get it."""
        return DatasetError(f"{found}: {self.title} is expected as {self.expected}; get {self.source}")

    def base(self, root: Path, places: Sequence[str], *, holds: str) -> Path:
        """The first of root / place that has `holds` in it, so that the folder above may be named as well.

        Raises:
            DatasetError: none of them has.
        """
        for place in places:
            if (root / place / holds).exists():
                return root / place
        raise self._missing(root, f"{quote(root / holds)} does not exist")

    def place(self, root: Path, *places: str) -> Path:
        """The first of root / place that exists, a folder or a file.

        Raises:
            DatasetError: none does.
        """
        for place in places:
            if (root / place).exists():
                return root / place
        raise self._missing(root, f"{quote(root)} has no {' or '.join(places)}")

    def listed(self, path: Path) -> tuple[str, ...]:
        """The names in a list file, in its order: the first word of each line, without folders and extension.

        Raises:
            DatasetError: a list that cannot be read or is empty.
        """
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise self.error(f"the list {quote(path)} cannot be read ({getattr(error, 'strerror', None) or brief(error)})") from error
        names = tuple(line.split()[0].rpartition("/")[2].partition(".")[0] for line in lines if line.strip())
        if not names:
            raise self.error(f"the list {quote(path)} is empty")
        return names

    def found(self, folder: Path, ending: str) -> tuple[str, ...]:
        """The names in a folder, without `ending`, of the files that end so; sorted, at least one.

        Raises:
            DatasetError: a folder that cannot be listed or has none.
        """
        names = sorted(entry.removesuffix(ending) for entry in self._entries(folder) if entry.endswith(ending))
        if not names:
            raise self.error(f"{quote(folder)} holds no *{ending}")
        return tuple(names)

    def files(self, folder: Path, names: Sequence[str], ending: str) -> tuple[Path, ...]:
        """The files folder / (name + ending).

        Raises:
            DatasetError: some are missing; it counts them and names the first.
        """
        entries = self._entries(folder)
        missing = [name for name in names if name + ending not in entries]
        if missing:
            raise self.error(f"{quote(folder)} lacks {len(missing)} of {len(names)} files, first {missing[0] + ending!r}")
        return tuple(folder / (name + ending) for name in names)

    def folders(self, folder: Path) -> tuple[str, ...]:
        """The names of the folders in a folder; sorted, at least one.

        Raises:
            DatasetError: a folder that cannot be listed or has none.
        """
        names = sorted(entry for entry in self._entries(folder) if (folder / entry).is_dir())
        if not names:
            raise self.error(f"{quote(folder)} holds no folders")
        return tuple(names)

    def _missing(self, root: Path, found: str) -> DatasetError:
        return self.error(found if root.is_dir() else f"the folder {quote(root)} does not exist")

    def _entries(self, folder: Path) -> set[str]:
        """What is in a folder, hidden files left out; listed once, because asking for thousands of files one by one is slow."""
        try:
            return {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
        except OSError as error:
            raise self.error(f"{quote(folder)} cannot be listed ({error.strerror})") from error
