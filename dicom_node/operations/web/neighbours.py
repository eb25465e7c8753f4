"""The models that this node runs and the peers that it knows: two pages to look something up."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.errors import NodeError
from dicom_node.ledger.hosts import without_former
from dicom_node.operations.web.desk import Desk, Form


class ModelsPage:
    """``/models``: every version of every model, its stage, and what is wrong."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def show(self, request: Request) -> Response:
        """The page."""
        return self._desk.page(
            request, "models.html", models=self._desk.ports.models(),
            problems=self._desk.ports.model_problems(),
            watched=frozenset(self._desk.ports.scanners.versions()),
        )


class PeersPage:
    """``/peers``: what each takes, whether it answers, and what it says when it is asked now."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def show(self, request: Request) -> Response:
        """The page."""
        return self._page(request)

    def ask(self, request: Request, form: Form) -> Response:
        """Echo, or ask what it takes."""
        user = self._desk.act(request)
        name, what = request.path_params["peer"], form.get("what", "")
        ports = self._desk.ports
        if name not in ports.config.peers or what not in ("echo", "probe"):
            raise HTTPException(404, "There is no such peer.")
        is_there = False
        try:
            if what == "echo":
                answer = f"{name} answered in {ports.echo(name):.3f} s."
            else:
                ports.probe(name)
                answer = f"{name} was asked what it takes: see below."
            is_there = True
        except NodeError as error:
            answer = f"{name} did not answer: {error} ({error.reason})."
        ports.events.web_action(user, f"{what} peer", name)
        return self._page(request, answer, {name: is_there})

    def _page(
        self, request: Request, answer: str = "", just_now: Mapping[str, bool] | None = None
    ) -> Response:
        ports = self._desk.ports
        return self._desk.page(
            request, "peers.html", peers=ports.config.peers, answer=answer,
            takes={name: ports.takes(name) for name in ports.config.peers},
            circuits=ports.ledger.circuits.all(), just_now=just_now or {},
            hosts=without_former(ports.ledger.hosts.all()),
        )
