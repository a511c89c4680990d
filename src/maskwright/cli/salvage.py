"""Work on many pictures that one of them does not end: what fails together is tried one by one."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from maskwright.cli.guard import explain, is_out_of_memory
from maskwright.errors import ImageError, NumberError

if TYPE_CHECKING:
    from maskwright.images import Picture

Work = Callable[[Iterator["Picture"]], Iterator[Any]]


def work_through(work: Work, pictures: Iterator["Picture"], *, refuse: Callable[[ImageError], None]) -> Iterator[Any]:
    """Results of all pictures, in their order, but for those that cost too much memory or give no numbers.

    Args:
        work: pictures to results, in their order, of as many at a time as it likes.
        pictures: to work on.
        refuse: told of each picture that fails by itself; the others go on.

    Raises:
        Exception: whatever else `work` raises: it would be so for every picture.
    """
    waiting = deque["Picture"]()  # taken by the work, without a result yet

    def handed_out() -> Iterator["Picture"]:
        for picture in pictures:
            waiting.append(picture)
            yield picture

    while True:
        try:
            for result in work(handed_out()):
                waiting.popleft()
                yield result
            return
        except Exception as error:
            if not _is_of_pictures(error) or not waiting:
                raise
            failed = error
        alone = [*waiting]
        waiting.clear()
        if len(alone) == 1:
            refuse(_named(alone[0], failed))
            continue
        for picture in alone:
            yield from _try(work, picture, refuse)


def _try(work: Work, picture: "Picture", refuse: Callable[[ImageError], None]) -> list[Any]:
    """The result of one picture by itself, none if it fails."""
    try:
        return list(work(iter([picture])))
    except Exception as error:
        if not _is_of_pictures(error):
            raise
        refuse(_named(picture, error))
        return []


def _is_of_pictures(error: Exception) -> bool:
    """Whether another picture may do well."""
    return isinstance(error, NumberError) or is_out_of_memory(error)


def _named(picture: "Picture", error: Exception) -> ImageError:
    return ImageError(f"{str(picture.source)!r}: {explain(error)}")
