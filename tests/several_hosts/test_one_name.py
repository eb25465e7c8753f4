"""Two machines that are called the same, as those made from one image are."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.several_hosts.site import HostProcess, Site, wait_until

pytestmark = [pytest.mark.postgresql, pytest.mark.long, pytest.mark.timeout(900)]


def twin(site: Site, roles: str) -> HostProcess:
    """Another machine of the name ``first``, with a disk of its own; not among the site's hosts."""
    return HostProcess(site.folder / "other machine" / roles / "first", roles, site.settings())


def test_who_is_started_under_the_name_of_a_host_that_lives_ends_and_says_why(
    tmp_path: Path, postgresql_url: str
) -> None:
    with Site(tmp_path, postgresql_url) as site:
        first = site.host("first", "intake")
        site.wait_for("first")
        second = twin(site, "intake")
        second.start()
        wait_until(lambda: not second.is_running, "the second ends")
        assert "node.host_name: another process that lives is called first" in second.log_text()
        assert second.stop() not in (0, -9)
        # Another part of the work under the same name is no other host.
        worker = twin(site, "work,deliver")
        worker.start()
        try:
            site.send_when_open(first, 0)
            site.wait_quiet(1)
        finally:
            assert worker.stop() == 0


def test_a_host_that_was_killed_has_its_name_again_at_once(
    tmp_path: Path, postgresql_url: str
) -> None:
    with Site(tmp_path, postgresql_url) as site:
        first = site.host("first", "intake")
        site.host("worker", "work,deliver")
        site.wait_for("first", "worker")
        site.send_when_open(first, 0)
        first.kill()
        second = twin(site, "intake")
        site.hosts.append(second)
        second.start()
        site.send_when_open(second, 1)
        site.wait_quiet(2)
        assert "host.name_taken" not in second.log_text()


def test_a_host_that_stood_still_and_was_replaced_meanwhile_ends_when_it_goes_on(
    tmp_path: Path, postgresql_url: str
) -> None:
    with Site(tmp_path, postgresql_url) as site:
        first = site.host("first", "intake")
        site.wait_for("first")
        first.signal(signal.SIGSTOP)
        second = twin(site, "intake")
        site.hosts.append(second)
        second.start()
        wait_until(lambda: "node listening" in second.log_text(), "the second has the name")
        first.was_ended = True
        first.signal(signal.SIGCONT)
        wait_until(lambda: not first.is_running, "the first ends")
        assert "another process that lives is called first" in first.log_text()
        assert second.is_running
