"""Receivers behind one address: HAProxy, with the settings that the documentation shows."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.chaos_load import make_series
from bench.hosts import run_hosts
from bench.raw_scu import CT, EXPLICIT, IMPLICIT, VERIFICATION, RawScu, Rejected, bare_data_set
from tests import peers
from tests.hosts.modality import make_load
from tests.hosts.network import Host, need_namespaces
from tests.hosts.node_host import AE_TITLE, DICOM_PORT, MODALITY, wait_until
from tests.hosts.site import Site
from tests.hosts.troubles import receiver_without_power

pytestmark = [pytest.mark.network, pytest.mark.long, pytest.mark.timeout(1200)]
PAGE = Path(__file__).parents[2] / "docs" / "several-hosts.md"
SERIES = 30


def settings_of_the_page() -> str:
    """Its HAProxy settings, with the addresses of the test in their place."""
    found = re.search(r"```haproxy\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    text = found[1]
    for shown, ours in (
        ("10.1.0.10:104", f"{{balancer}}:{DICOM_PORT}"), ("10.1.0.11:", "{receiver1}:"),
        ("10.1.0.12:", "{receiver2}:"),
    ):
        assert text.count(shown) == 1, shown
        text = text.replace(shown, ours)
    return text


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    need_namespaces()
    for program in ("storescp", "haproxy"):
        peers.need_program(program)
    with Site(tmp_path / "site", balancer=settings_of_the_page()) as made:
        yield made


def call(host: Host, address: str) -> RawScu:
    contexts = [(1, CT, [EXPLICIT]), (3, VERIFICATION, [IMPLICIT])]
    return host.run(
        lambda: RawScu(
            DICOM_PORT, contexts, calling=MODALITY, called=AE_TITLE, timeout_s=30.0, host=address
        )
    )


def test_associations_of_one_series_are_spread_over_receivers_that_know_who_calls(
    site: Site, tmp_path: Path
) -> None:
    site.start()
    assert site.balancer is not None
    address = site.balancer.address
    series_uid, files = make_series(tmp_path / "series", random.Random(7), (12, 24, 32))

    # All of them open at once: the next one goes to the receiver that has fewest.
    associations = [call(site.clinic, address) for _ in range(4)]
    answers = [scu.echo(3) for scu in associations]
    for number, (uid, path) in enumerate(files):
        sop_class, _, _, data = bare_data_set(path)
        answers.append(associations[number % 4].store(sop_class, uid, data))
    for scu in associations:
        scu.release()
    assert answers == [0] * 16
    wait_until(
        lambda: site.query("SELECT count(*) FROM jobs WHERE state = 'succeeded'")[0][0] == 1,
        "the one job is done",
    )
    (state,) = site.query(
        "SELECT instance_count FROM series WHERE series_instance_uid = :uid", uid=series_uid
    )
    assert state == (12,)
    used = Counter(row[0] for row in site.query(
        "SELECT h.host_name FROM associations a JOIN hosts h"
        " ON h.process_id = split_part(a.listener_id, '.', 1)"
    ))
    assert used.keys() == {"receiver1", "receiver2"}
    # The same AE title from another address: the receivers know, though the balancer calls.
    with pytest.raises(Rejected):
        call(site.archive, address)
    logs = "".join(one.log_text() for one in site.of_role("intake"))
    assert site.archive.address in logs and "access.address" in logs


def test_a_receiver_loses_its_power_behind_the_balancer_and_nothing_is_lost(
    site: Site, tmp_path: Path
) -> None:
    sent = make_load(tmp_path / "series", SERIES, seed=8)
    done = run_hosts(site, sent, [(0.4, receiver_without_power("receiver1"))], every_s=0.4)
    assert done.verdict.findings() == [], site.log_tails()
    assert done.verdict.results == SERIES
    received = dict(site.query(
        "SELECT h.host_name, count(*) FROM associations a JOIN hosts h"
        " ON h.process_id = split_part(a.listener_id, '.', 1) GROUP BY h.host_name"
    ))
    assert received["receiver1"] and received["receiver2"] > received["receiver1"]
