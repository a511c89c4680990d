"""What turns stored pairs into a data set that one can hand on; made again after every run, whole."""

from collections.abc import Collection

from maskwright.discovery.card import write_card
from maskwright.discovery.formats import write_formats
from maskwright.discovery.preview import write_preview
from maskwright.discovery.store import PairStore


def finish(
    store: PairStore, *, formats: Collection[str] = ("coco",), command: str | None = None, again: str | None = None,
    licence: str | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """Writes the forms for other programs, the contact sheet and the data card.

    All of it is a function of the stored pairs and these arguments, so that it does not matter how often a run was interrupted.

    Args:
        store: the data set; it may hold no pair at all.
        formats: "coco", "voc", "yolo"; see `write_formats`.
        command: for the card: the command line that makes this data set from nothing, without --resume and paths of this machine.
        again: for the card: a command line that makes one pair again.
        licence: for the card: that of the model.

    Returns:
        The names of the forms that are in the folder.

    Raises:
        SettingsError: an unknown form.
        OutputError: the files cannot be written.
    """
    written = write_formats(store, formats)
    write_preview(store)
    write_card(store, formats=written, command=command, again=again, licence=licence)
    return written
