"""Equal floats: sums on several threads differ in the last digit from run to run, and trainings promise equality on one."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """For the whole module, so that fixtures of the module are made on one thread, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
