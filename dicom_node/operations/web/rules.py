"""The rules as read, why they do not take a study, and what others would have done."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.config import Rule
from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.events import hash_uid
from dicom_node.operations.web.desk import Desk, Form, back_to
from dicom_node.operations.web.ports import Replay, RuleAnswer

_MOST_DAYS = 366.0


class RulesPage:
    """``/rules`` and what belongs to it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def show(self, request: Request) -> Response:
        """The rules, and with ``study`` in the query what they say of it."""
        name = request.query_params.get("study", "").strip().lower()[:16]
        if not name:
            return self._page(request)
        uid = self._desk.names.study(name)
        if uid is None:
            return self._page(request, problem=f"No study is known as {name}.", status=404)
        return self._page(request, study=hash_uid(uid), answers=self._answers(uid))

    def choose(self, request: Request, form: Form) -> Response:
        """To the study that was named in the form."""
        del request
        name = "".join(one for one in form.get("study", "").lower() if one in "0123456789abcdef")
        return back_to(f"/rules?study={name[:16]}" if name else "/rules")

    def replay(self, request: Request, form: Form) -> Response:
        """What the rules in the form would have done; nothing is changed by it."""
        user = self._desk.act(request)
        text, wanted = form.get("rules", ""), form.get("days", "7")
        try:
            days = float(wanted)
        except ValueError as error:
            raise HTTPException(400, "Days are a number.") from error
        if not math.isfinite(days) or not 0 < days <= _MOST_DAYS:
            raise HTTPException(400, f"Days are a number above 0, and {_MOST_DAYS:g} at most.")
        found: Replay | None = None
        problem = ""
        try:
            found = self._desk.ports.replay(days, text)
        except ConfigurationError as error:
            problem = str(error)
        self._desk.ports.events.web_action(user, "replay rules", f"{days:g} days")
        return self._page(
            request, text=text, days=days, found=found, replay_problem=problem,
            status=422 if problem else 200,
        )

    def _answers(self, uid: str) -> list[tuple[str, str, list[RuleAnswer] | str]]:
        """Of each series its hash, its modality, and what each rule says, or why none can."""
        found: list[tuple[str, str, list[RuleAnswer] | str]] = []
        for one in self._desk.ports.ledger.receipts.series_of_study(uid):
            try:
                said: list[RuleAnswer] | str = list(
                    self._desk.ports.why_not(one.series_instance_uid)
                )
            except NodeError as error:
                said = f"{error} ({error.reason})"
            found.append((hash_uid(one.series_instance_uid), one.modality, said))
        return found

    def _page(self, request: Request, *, status: int = 200, **context: Any) -> Response:
        ports = self._desk.ports
        known = {
            "study": "", "answers": None, "problem": "", "text": ports.rules_text(), "days": 7,
            "found": None, "replay_problem": "", **context,
        }
        return self._desk.page(
            request, "rules.html", status=status, rules=ports.config.rules,
            without_model={one.rule: one for one in ports.ledger.stages.rules_without_model()},
            conditions={rule.name: _conditions(rule) for rule in ports.config.rules},
            mode=ports.config.routing.match, **known,
        )


def _conditions(rule: Rule) -> list[str]:
    """What a rule asks for, one line for each keyword."""
    when = rule.model_dump(mode="json")["when"]
    return [
        f"{keyword}: {value if isinstance(value, str) else json.dumps(value)}"
        for keyword, value in when.items()
    ]
