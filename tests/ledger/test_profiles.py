"""What is kept about what destinations take."""

from __future__ import annotations

from dataclasses import replace

from dicom_node.ledger.ledger import Ledger
from dicom_node.records import DestinationProfile
from tests.ledger.conftest import START

SEGMENTATION, REPORT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"
EXPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
ASKED = DestinationProfile("pacs", {SEGMENTATION: (EXPLICIT, RLE)}, frozenset(), START)


def test_a_destination_that_was_never_asked_has_no_profile(ledger: Ledger) -> None:
    assert ledger.profiles.find("pacs") is None
    assert ledger.profiles.all() == {}


def test_a_profile_outlives_the_node_and_replaces_the_one_before(ledger: Ledger) -> None:
    ledger.profiles.put(ASKED)
    later = replace(ASKED, accepted={REPORT: (EXPLICIT,)}, refused=frozenset({SEGMENTATION}))
    ledger.profiles.put(later)
    again = Ledger.open(ledger.url)
    assert again.profiles.find("pacs") == later
    assert again.profiles.all() == {"pacs": later}
    again.close()


def test_a_refused_class_is_new_once_and_is_not_taken_any_more(ledger: Ledger) -> None:
    ledger.profiles.put(ASKED)
    assert ledger.profiles.refuse("pacs", SEGMENTATION)
    assert not ledger.profiles.refuse("pacs", SEGMENTATION)
    profile = ledger.profiles.find("pacs")
    assert profile == replace(ASKED, refused=frozenset({SEGMENTATION}))
    assert not profile.takes(SEGMENTATION)


def test_a_destination_that_was_never_asked_takes_what_it_did_not_refuse(ledger: Ledger) -> None:
    assert ledger.profiles.refuse("web", SEGMENTATION)
    profile = ledger.profiles.find("web")
    assert profile is not None
    assert (profile.takes(SEGMENTATION), profile.takes(REPORT)) == (False, True)
    assert profile.probed_at is None
