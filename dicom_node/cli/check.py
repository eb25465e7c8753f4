"""``dicom-node check``: can this node do its work? Settings, disk, ledger, models, peers.

Destinations are asked anew what they take, and the node goes by the answer.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import (
    REBUILT_AT_START,
    ledger_url,
    model_problems,
    model_stages,
    open_catalog,
    open_config,
)
from dicom_node.cli.output import print_json, print_table
from dicom_node.config import SENDER
from dicom_node.errors import (
    ConfigurationError,
    LedgerDamaged,
    NodeError,
    PeerRefused,
    StorageFailed,
    UnknownName,
)

if TYPE_CHECKING:
    from pathlib import Path

    from dicom_node.config import Config, PeerSettings
    from dicom_node.records import DestinationProfile


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("check", help="can this node do its work?")
    parser.add_argument("--no-network", action="store_true", help="do not call the peers")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run every check; exit 1 when one fails."""
    config = open_config(arguments)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("settings", lambda: _settings(config, arguments.config)),
        ("data_dir", lambda: _data_dir(config)),
        ("free space", lambda: _free_space(config)),
        ("ledger", lambda: _ledger(config)),
        ("models", lambda: _models(config)),
    ]
    results = [_outcome(name, check) for name, check in checks]
    results += _bad_folders(config)
    if not arguments.no_network:
        results += [found for name in config.peers for found in _peer(config, name)]
    if arguments.json:
        print_json({"checks": results})
    else:
        print_table(
            ("check", "", "what was found"),
            [(one["check"], "ok" if one["ok"] else "FAILED", one["found"]) for one in results],
        )
    return 0 if all(one["ok"] for one in results) else 1


def _outcome(name: str, check: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"check": name, "ok": True, "found": check()}
    except NodeError as error:
        return {"check": name, "ok": False, "found": f"{error.reason}: {error}"}


def _settings(config: Config, file: Path | None) -> str:
    read = f"{file}: " if file else "no file, all defaults: "
    if not config.rules:
        return read + "no rules: every series would be declined"
    peers = f"{len(config.peers)} peer(s)"
    callers = "anyone" if config.access.accept_unknown_callers else peers
    return f"{read}{len(config.rules)} rule(s), {callers} may call {config.node.ae_title}"


def _data_dir(config: Config) -> str:
    folder = config.node.data_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise StorageFailed(f"{existing} is not writable for this user")
    return str(folder)


def _free_space(config: Config) -> str:
    folder = config.node.data_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free_bytes = shutil.disk_usage(existing).free
    watermark_bytes = config.storage.refuse_below_free_bytes
    text = f"{free_bytes / 2**30:.1f} GiB free, images are refused below "
    text += f"{watermark_bytes / 2**30:.1f} GiB"
    if free_bytes <= watermark_bytes:
        raise StorageFailed(text)
    from dicom_node.intake.pressure import UNKNOWN_BYTES

    if watermark_bytes and free_bytes - watermark_bytes < UNKNOWN_BYTES:
        text += "; new associations may be refused: a study may not fit above that"
    return text


def _ledger(config: Config) -> str:
    from dicom_node.ledger.database import sqlite_path
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.ledger.recovery import find_damage

    if _is_ledger_to_come(config):
        return "will be created at the first start"
    path = sqlite_path(ledger_url(config))
    damage = find_damage(path) if path is not None else ""
    if damage:
        raise LedgerDamaged(f"{damage}; {REBUILT_AT_START}")
    ledger = Ledger.open(ledger_url(config))
    counts = ledger.receipts.count_by_state()
    ledger.close()
    return f"{sum(counts.values())} series"


def _is_ledger_to_come(config: Config) -> bool:
    """Whether there is no ledger, so that none is made.

    One that this user made might not be writable for the user that the node runs as.
    """
    return config.database.url is None and not (config.node.data_dir / "ledger.db").exists()


def _models(config: Config) -> str:
    from ai_models.types import ModelError
    from dicom_node.node_models import check_model, site_of

    catalog, site = open_catalog(config), site_of(config)
    known_before = model_stages(config)
    outcomes: dict[str, tuple[str, str]] = {}
    wrong: list[tuple[str, str]] = []

    def outcome_of(model_id: str, *, whole: bool) -> tuple[str, str]:
        """Reason and message, both empty where all is well; a name that nothing knows is wrong."""
        try:
            card = catalog.get(model_id)
            if whole:
                check_model(card, site)
        except ModelError as error:
            is_known = catalog.knows(model_id) or model_id in known_before
            return error.reason if is_known else UnknownName.reason, str(error)
        return "", ""

    for rule in config.rules:
        if rule.model not in outcomes:
            outcomes[rule.model] = outcome_of(rule.model, whole=True)
        reason, message = outcomes[rule.model]
        wrong += [(reason, f"rule {rule.name!r}: {message}")] if reason else []
    for name in config.jobs.per_model:
        reason, message = outcome_of(name, whole=False)
        wrong += [(reason, f"jobs.per_model.{name}: {message}")] if reason else []
    if wrong:
        (reason, text), *others = wrong
        text = "; ".join([text, *(f"{code}: {message}" for code, message in others)])
        raise ConfigurationError(text, reason=reason)
    ruled = len({rule.model for rule in config.rules})
    return f"{len(catalog.cards())} known; {ruled} in rules, with weights as their cards say"


def _bad_folders(config: Config) -> list[dict[str, Any]]:
    """Model folders that are not used as they are: somebody put them there to be used."""
    try:
        problems = model_problems(config, open_catalog(config))
    except NodeError:
        # What is wrong is told by the checks of ledger and models.
        return []
    return [
        {"check": f"folder of {one.model_id or 'models'}", "ok": False, "found": one.message}
        for one in problems
    ]


def _peer(config: Config, name: str) -> list[dict[str, Any]]:
    """Whether a peer answers, and where results go there, in which form."""
    answered = _outcome(f"peer {name}", lambda: _echo(config, name))
    if not answered["ok"] or not _is_destination(config, name):
        return [answered]
    details: dict[str, Any] = {}
    results = _outcome(f"results to {name}", lambda: _results_to(config, name, details))
    return [answered, {**results, **details}]


def _is_destination(config: Config, name: str) -> bool:
    destinations = {destination for rule in config.rules for destination in rule.send_to}
    return name in destinations or SENDER in destinations


def _echo(config: Config, name: str) -> str:
    from dicom_node.delivery.dicomweb import sender_for

    try:
        peer = config.peer(name)
        seconds = sender_for(config.node.ae_title, peer).echo(peer)
    except NodeError as error:
        # Many scanners send and never answer; that matters only where results go.
        if _is_destination(config, name):
            raise
        return f"does not answer, and no rule sends to it ({error.reason})"
    return f"answered in {seconds:.3f} s"


def _results_to(config: Config, name: str, details: dict[str, Any]) -> str:
    from dicom_node.cli.takes import as_document, at_length, in_words, sendings

    peer = config.peer(name)
    profile = _ask(config, peer)
    sent = sendings(peer, profile)
    details.update(as_document(profile), results_as=[vars(one) for one in sent])
    text = f"{at_length(profile)}; {in_words(sent)}"
    if not sent:
        raise PeerRefused(text, reason="peer.takes_no_results")
    return text


def _ask(config: Config, peer: PeerSettings) -> DestinationProfile | None:
    """Ask anew what a peer takes, and let the node know; former refusals are forgotten."""
    from dicom_node.delivery.capabilities import Capabilities, probe
    from dicom_node.events import Events
    from dicom_node.ledger.ledger import Ledger

    if _is_ledger_to_come(config):
        return probe(peer, config.node.ae_title)
    ledger = Ledger.open(ledger_url(config))
    try:
        return Capabilities(config, ledger, Events()).ask(peer, forget_refusals=True)
    finally:
        ledger.close()
