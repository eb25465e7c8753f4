"""What `check` says of the peers: whether each answers, and what results go there as."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import is_ledger_to_come, ledger_url
from dicom_node.cli.peer_steps import next_step
from dicom_node.config import SENDER
from dicom_node.errors import NodeError
from dicom_node.operations.doctor import Check, Finding, failed, ok

if TYPE_CHECKING:
    from dicom_node.config import Config, PeerSettings
    from dicom_node.records import DestinationProfile

_TODO = "is it up? host and port as it says?"
_TAKES_NOTHING = "let it take Segmentation, SR or Secondary Capture, or see peers.<name>.results"
# Each step of an association waits at most half a minute for a peer that says nothing.
_WITHIN_S = 150.0


def checks(config: Config) -> list[Check]:
    """One for each peer; they wait for their peers beside each other."""
    return [
        Check(f"peer {name}", partial(_peer, config, name), _TODO, _WITHIN_S, beside=True)
        for name in config.peers
    ]


def _peer(config: Config, name: str) -> list[Finding]:
    """Whether a peer answers, and where results go there, in which form."""
    answered = _echo(config, name)
    if not _is_destination(config, name):
        return [answered]
    return [answered, _results_to(config, name)]


def _is_destination(config: Config, name: str) -> bool:
    destinations = {destination for rule in config.rules for destination in rule.send_to}
    return name in destinations or SENDER in destinations


def _echo(config: Config, name: str) -> Finding:
    from dicom_node.delivery.dicomweb import sender_for

    check = f"peer {name}"
    peer = config.peer(name)
    try:
        seconds = sender_for(config.node.ae_title, peer).echo(peer)
    except NodeError as error:
        # Many scanners send and never answer; that matters only where results go.
        if _is_destination(config, name):
            return failed(check, f"{error.reason}: {error}", next_step(config, peer, error))
        return ok(check, f"does not answer, and no rule sends to it ({error.reason})")
    return ok(check, f"answered in {seconds:.3f} s")


def _results_to(config: Config, name: str) -> Finding:
    check = f"results to {name}"
    try:
        return _asked(config, name, check)
    except NodeError as error:
        todo = next_step(config, config.peer(name), error)
        return failed(check, f"{error.reason}: {error}", todo)


def _asked(config: Config, name: str, check: str) -> Finding:
    from dicom_node.cli.takes import as_document, at_length, in_words, sendings

    peer = config.peer(name)
    profile = _ask(config, peer)
    sent = sendings(peer, profile)
    details: dict[str, Any] = as_document(profile)
    details["results_as"] = [vars(one) for one in sent]
    text = f"{at_length(profile)}; {in_words(sent)}"
    if not sent:
        found = failed(check, f"peer.takes_no_results: {text}", _TAKES_NOTHING)
    else:
        found = ok(check, text)
    return replace(found, details=details)


def _ask(config: Config, peer: PeerSettings) -> DestinationProfile | None:
    """Ask anew what a peer takes, and let the node know; former refusals are forgotten."""
    from dicom_node.delivery.capabilities import Capabilities, probe
    from dicom_node.events import Events
    from dicom_node.ledger.ledger import Ledger

    if is_ledger_to_come(config):
        return probe(peer, config.node.ae_title)
    ledger = Ledger.open(ledger_url(config))
    try:
        return Capabilities(config, ledger, Events()).ask(peer, forget_refusals=True)
    finally:
        ledger.close()
