"""History against rules: what another set of rules would have done with what arrived lately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from dicom_node import config_problems, config_yaml
from dicom_node.config import Config, Rule
from dicom_node.errors import ConfigurationError, NotUnderstood
from dicom_node.node_headers import representative
from dicom_node.operations.web.ports import Replay, RuleDifference
from dicom_node.records import SeriesState
from dicom_node.routing import rules as routing

if TYPE_CHECKING:
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.spool import Spool

LIMIT = 2000


class _Indented(yaml.SafeDumper):
    """Lists stand below their key, as in `config.yaml`: a line that is added goes where it looks.
    """

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless
        super().increase_indent(flow, False)


def rules_text(config: Config) -> str:
    """The rules as YAML, as they may stand in the settings."""
    rules = [rule.model_dump(mode="json") for rule in config.rules]
    text: str = yaml.dump(
        {"rules": rules}, Dumper=_Indented, sort_keys=False, allow_unicode=True
    )
    return text


def parse_rules(config: Config, text: str, file: str = "") -> list[Rule]:
    """The rules of a YAML text with a key ``rules``; its other keys are not looked at.

    Raises
    ------
    ConfigurationError
        With line and key path; also when a rule sends to a peer that ``config`` does not have.
    """
    tree = config_yaml.parse(text, file)
    if not isinstance(tree.values, dict) or "rules" not in tree.values:
        raise ConfigurationError("found no rules, expected a key `rules:` with a list below it",
                                 line=1, file=file)
    # All that is in use: a peer may need what another section says, such as TLS.
    in_use = {name: getattr(config, name) for name in Config.model_fields}
    values = {**in_use, "rules": tree.values["rules"] or []}
    try:
        return Config.model_validate(values).rules
    except ValidationError as error:
        raise config_problems.first_error(error, tree, file, {}, Config) from None


def replay(
    config: Config, ledger: Ledger, spool: Spool, days: float, rules: Sequence[Rule],
    *, limit: int = LIMIT,
) -> Replay:
    """Compare the rules of ``config`` with others, on every series received in the last days.

    Series that are still arriving are left out, and so are those whose images are gone. Of more
    than ``limit`` series the latest are looked at.
    """
    since = datetime.now(UTC) - timedelta(days=days)
    found = [
        one for one in ledger.overview.received_since(since, limit)
        if one.state is not SeriesState.RECEIVING
    ]
    before: dict[str, set[str]] = {rule.name: set() for rule in config.rules}
    after: dict[str, set[str]] = {rule.name: set() for rule in rules}
    seen: list[str] = []
    for series in found:
        uid = series.series_instance_uid
        try:
            dataset = representative(spool, ledger.receipts.instances(uid))
        except NotUnderstood:
            continue
        seen.append(uid)
        for named, those in ((before, config.rules), (after, rules)):
            for rule in routing.match(those, dataset, mode=config.routing.match):
                named[rule.name].add(uid)
    return Replay(
        days=days, series=len(seen), not_kept=len(found) - len(seen), limit=limit,
        rules=tuple(_difference(name, before, after) for name in {**before, **after}),
        unmatched_before=len(set(seen).difference(*before.values())),
        unmatched_after=len(set(seen).difference(*after.values())),
    )


def _difference(
    name: str, before: Mapping[str, set[str]], after: Mapping[str, set[str]]
) -> RuleDifference:
    was, will = before.get(name, set()), after.get(name, set())
    return RuleDifference(
        name, len(was), len(will), tuple(sorted(will - was)), tuple(sorted(was - will))
    )
