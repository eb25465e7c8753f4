"""A node beside a real archive: it counts there, fetches what is missing, and closes by count."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import Config, PeerSettings
from dicom_node.delivery.sender import Sender
from dicom_node.events import Events
from dicom_node.node import Node
from tests import peers
from tests.acceptance.running_node import wait_until
from tests.dicom_samples import ct_series, write_series

SLICES = 12


class Site:
    """An archive that holds a series, and an intake node that has part of it."""

    def __init__(self, folder: Path, archive: peers.Orthanc, node: Node) -> None:
        self.archive, self.node = archive, node
        self.datasets = ct_series((SLICES, 32, 40))
        self._paths = write_series(self.datasets, folder / "series")
        outcomes = Sender("SCANNER1").send(archive.peer, self._paths)
        assert all(outcome.stored for outcome in outcomes)

    @property
    def uids(self) -> list[str]:
        return [str(dataset.SOPInstanceUID) for dataset in self.datasets]

    def send(self, slices: slice) -> None:
        """Send slices to the node under the archive's name."""
        node = PeerSettings(
            name="node", ae_title="DICOMNODE", host="127.0.0.1", port=self.node.port
        )
        outcomes = Sender(self.archive.ae_title).send(node, self._paths[slices])
        assert all(outcome.stored for outcome in outcomes)

    def reasons(self) -> list[str]:
        uid = str(self.datasets[0].SeriesInstanceUID)
        return [one.reason for one in self.node.ledger.history("series", uid)]

    def closed(self) -> list[str]:
        """The reasons of the closings so far."""
        uid = str(self.datasets[0].SeriesInstanceUID)
        return [
            one.reason for one in self.node.ledger.history("series", uid)
            if one.to_state == "complete"
        ]


@contextmanager
def site(
    folder: Path, *, is_known: bool = True, completeness: Mapping[str, float] | None = None,
    **pacs: Any,
) -> Iterator[Site]:
    port = peers.free_port()
    modalities = {"node": ("DICOMNODE", "127.0.0.1", port)} if is_known else {}
    with peers.Orthanc(folder, modalities=modalities) as archive:
        config = Config.model_validate(
            {
                "node": {"ae_title": "DICOMNODE", "host": "127.0.0.1", "port": port,
                         "data_dir": folder / "node"},
                "peers": {"pacs": {"ae_title": archive.ae_title, "host": "127.0.0.1",
                                   "port": archive.port, **pacs}},
                "completeness": {"after_release_s": 0.5, "quiet_period_s": 600,
                                 "give_up_after_s": 1200, **(completeness or {})},
                "storage": {"refuse_below_free_bytes": 0},
                "intake": {"listener_processes": 1},
                "models": {"devices": ["cpu"]},
            }
        )
        node = Node(config, Events(), ["intake"])
        stop = threading.Event()
        loop = threading.Thread(target=node.run, args=(stop,))
        try:
            node.start()
            loop.start()
            yield Site(folder, archive, node)
        finally:
            stop.set()
            if loop.ident is not None:
                loop.join()
            node.close()


@pytest.mark.parametrize("retrieve", ["auto", "c-move", "c-get"])
def test_missing_slices_are_found_by_count_fetched_and_the_series_closed_by_count(
    tmp_path: Path, retrieve: str
) -> None:
    with site(tmp_path, retrieve=retrieve) as place:
        # The last two: no hole between slices tells of them.
        place.archive.send("node", place.uids[:-2])
        (reason,) = wait_until(place.closed, "the series is closed")
        assert reason == f"c-find: {SLICES} of {SLICES}, {SLICES} instances"
        way = "c-get" if retrieve == "c-get" else "c-move"
        assert f"repair: {way} brought 2 of 2" in place.reasons()
        kept = place.node.ledger.receipts.instances(str(place.datasets[0].SeriesInstanceUID))
        assert sorted(one.sop_instance_uid for one in kept) == sorted(place.uids)
        assert all(place.node.spool.resolve(one.path).is_file() for one in kept)


def test_an_archive_that_does_not_know_the_node_is_asked_to_give_instead_of_to_send(
    tmp_path: Path,
) -> None:
    with site(tmp_path, is_known=False) as place:
        place.send(slice(0, SLICES - 2))
        (reason,) = wait_until(place.closed, "the series is closed")
        assert reason == f"c-find: {SLICES} of {SLICES}, {SLICES} instances"
        assert any(
            one.startswith("repair: c-move peer.") and one.endswith("c-get brought 2 of 2")
            for one in place.reasons()
        ), place.reasons()


def test_what_cannot_be_fetched_is_given_up_and_named(tmp_path: Path) -> None:
    waits = {"quiet_period_s": 1, "give_up_after_s": 8}
    with site(tmp_path, is_known=False, completeness=waits, retrieve="c-move") as place:
        place.send(slice(0, SLICES - 2))
        (reason,) = wait_until(place.closed, "the series is closed")
        missing = f"c-find: {SLICES} announced, {SLICES - 2} here"
        assert reason == f"gave_up_waiting: {missing}, {SLICES - 2} instances"
        assert any("repair: c-move peer." in one for one in place.reasons())


def test_slices_that_come_later_and_slices_that_come_again(tmp_path: Path) -> None:
    with site(tmp_path, query="off", completeness={"quiet_period_s": 2}) as place:
        place.send(slice(0, SLICES - 1))
        wait_until(lambda: len(place.closed()) == 1, "the series is closed by the timer")
        place.send(slice(SLICES - 1, SLICES))
        wait_until(lambda: len(place.closed()) == 2, "the late slice reopened it")
        assert "late_instances: 1 new, 0 replaced" in place.reasons()
        before = place.reasons()
        place.send(slice(0, SLICES))
        series = str(place.datasets[0].SeriesInstanceUID)
        ended = place.node.ledger.receipts.associations_of
        wait_until(lambda: ended(series).open == 0, "the last association is indexed")
        assert place.reasons()[: len(before)] == before
        assert "late_instances" not in "".join(place.reasons()[len(before):])
