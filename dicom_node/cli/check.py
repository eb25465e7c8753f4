"""``dicom-node check``: can this node do its work? What is wrong, and what to do about it.

Destinations are asked anew what they take, and the node goes by the answer. Nothing else is
changed, and nothing is made that is not there.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import open_config, running_roles
from dicom_node.cli.output import print_json, print_table

if TYPE_CHECKING:
    from dicom_node.config import Config
    from dicom_node.operations.doctor import Check, Finding


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("check", help="can this node do its work?")
    parser.add_argument("--no-network", action="store_true", help="do not call the peers")
    parser.add_argument("--no-selftest", action="store_true", help="run no model on a phantom")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run every check; exit 1 when one fails, and 2 when the settings cannot be read."""
    config = open_config(arguments)

    from dicom_node.operations.doctor import Outcome, examine

    findings = examine(_checks(config, arguments))
    if arguments.json:
        print_json({"checks": [_as_document(one) for one in findings]})
    else:
        _print(findings)
    return 1 if any(one.outcome is Outcome.FAILED for one in findings) else 0


def _checks(config: Config, arguments: argparse.Namespace) -> list[Check]:
    from dicom_node.cli import (
        check_data,
        check_database,
        check_inputs,
        check_models,
        check_peers,
        check_ports,
        check_spool,
        writers,
    )
    from dicom_node.operations import doctor_certificates, doctor_host
    from dicom_node.operations.doctor import Check

    first = [
        Check("settings", partial(check_data.settings, config, arguments.config)),
        Check("data_dir", partial(doctor_host.data_dir, config),
              "node.data_dir: a directory of the user that the node runs as"),
    ]
    if doctor_host.closed_to_this_user(config) is not None:
        return first
    process_id = running_roles(config).get("intake", 0)
    checks = [
        *first,
        Check("file system", partial(doctor_host.file_system, config),
              "node.data_dir on a local disk, or database.url: postgresql://..."),
        Check("free space", partial(check_data.free_space, config),
              "make room, or lower storage.refuse_below_free_bytes"),
        Check("disk speed", partial(doctor_host.disk_speed, config),
              "see whether the disk is well (dmesg, smartctl)"),
        Check("clock", doctor_host.clock),
        Check("time zone", doctor_host.time_zone),
        Check("open files", partial(doctor_host.limits, config, process_id)),
        *([Check(check_database.NAME, partial(check_database.database, config),
                 check_database.TODO)] if check_database.is_on_a_server(config) else []),
        Check("ledger", partial(check_data.ledger, config), check_data.LEDGER_TODO, 600.0),
        Check("hosts", partial(check_data.hosts, config), check_data.LEDGER_TODO),
        *([Check(check_spool.NAME, partial(check_spool.spool, config), check_spool.TODO, 60.0)]
          if check_spool.is_shared(config) else []),
        Check("audit trail", partial(check_data.audit, config),
              "keep the files as they are, and find out who changed them", 600.0),
        Check("certificates", partial(doctor_certificates.certificates, config),
              "PEM files, readable for the node: security.tls, web, peers"),
        Check("tokens", partial(check_data.tokens, config),
              "dicom-node web-token NAME writes the file"),
        Check("listeners", partial(check_ports.listeners, config), check_ports.TODO),
        Check("models", partial(check_models.models, config), check_models.TODO, 300.0),
        Check("impressions", partial(writers.impressions, config)),
        Check("folders", partial(check_models.bad_folders, config), within_s=120.0),
        Check("further series", partial(check_inputs.further_series, config), within_s=120.0),
        Check("GPU", partial(check_models.devices, config), check_models.GPU_TODO, 180.0),
    ]
    if not arguments.no_selftest:
        checks.append(
            Check("self-test", partial(check_models.self_test, config), check_models.TODO, 900.0)
        )
    if not arguments.no_network:
        checks += check_peers.checks(config)
    return checks


def _as_document(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check, "ok": finding.outcome != "failed", "outcome": finding.outcome,
        "found": finding.found, "next": finding.todo, **finding.details,
    }


def _print(findings: list[Finding]) -> None:
    words = {"ok": "ok", "warning": "warning", "failed": "FAILED"}
    rows = []
    for one in findings:
        rows.append((one.check, words[one.outcome], one.found))
        if one.todo:
            rows.append(("", "-> next", one.todo))
    print_table(("check", "", "what was found"), rows)
