"""What the results of a series need whatever its model says, done while the model computes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from dicom_node.pipeline.loading import Loaded
from dicom_node.results.readiness import get_ready


@contextlib.contextmanager
def beforehand(loaded: Loaded) -> Iterator[None]:
    """Make the headers of a series fit for results, in a thread beside the caller.

    The model computes in another process, and this one would wait. What goes wrong here goes wrong
    again where it is needed, and is raised there.
    """
    thread = threading.Thread(target=make_ready, args=(loaded,), name="beforehand", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def make_ready(loaded: Loaded) -> None:
    """Load what results need, and make the headers fit for them. Never raises."""
    # A boundary: nobody waits for the outcome, and who needs it meets the error again.
    with contextlib.suppress(Exception):
        get_ready()
        _ = loaded.repaired
