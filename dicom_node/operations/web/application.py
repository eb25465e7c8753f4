"""Every address of the page, and who answers it."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from dicom_node.errors import TransientError
from dicom_node.operations.web.access import Access
from dicom_node.operations.web.actions import ActionPages
from dicom_node.operations.web.api import Api, Probes, for_errors
from dicom_node.operations.web.desk import STATIC, Desk
from dicom_node.operations.web.gate import Gate
from dicom_node.operations.web.neighbours import ModelsPage, PeersPage
from dicom_node.operations.web.pictures import PicturePages
from dicom_node.operations.web.ports import Ports
from dicom_node.operations.web.rules import RulesPage
from dicom_node.operations.web.scanners import ScannersPage
from dicom_node.operations.web.signing_in import SigningIn
from dicom_node.operations.web.studies import StudiesPage
from dicom_node.operations.web.study import StudyPage

_FOR_GOOD = {"cache-control": "public, max-age=31536000, immutable"}


def build_application(ports: Ports, access: Access) -> ASGIApp:
    """The whole page as an ASGI application (handlers run in threads, not in its event loop)."""
    desk = Desk(ports, access)
    refusals = for_errors(desk)

    def busy(request: Request, error: Exception) -> Response:
        reason = error.reason if isinstance(error, TransientError) else ""
        wait = HTTPException(503, f"The node cannot say at the moment ({reason}). Try again.")
        return refusals(request, wait)

    application = Starlette(
        routes=[*_for_programs(desk), *_for_people(desk), *_for_operators(desk)],
        exception_handlers={HTTPException: refusals, TransientError: busy},
    )
    return Gate(application, desk)


def _for_programs(desk: Desk) -> list[Route]:
    probes, api = Probes(desk), Api(desk)

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            raise HTTPException(404)
        return Response(desk.static[name], media_type=STATIC[name], headers=_FOR_GOOD)

    def icon(request: Request) -> Response:
        del request
        return RedirectResponse("/static/icon.svg", 308)

    return [
        Route("/healthz", probes.alive),
        Route("/readyz", probes.ready),
        Route("/metrics", probes.metrics),
        Route("/api/studies", api.studies),
        Route("/api/studies/{uid}", api.study),
        Route("/api/jobs", api.jobs),
        Route("/static/{name}", static),
        Route("/favicon.ico", icon),
    ]


def _for_people(desk: Desk) -> list[Route]:
    studies, study, pictures = StudiesPage(desk), StudyPage(desk), PicturePages(desk)
    rules, models, peers, signing = (
        RulesPage(desk), ModelsPage(desk), PeersPage(desk), SigningIn(desk)
    )
    scanners = ScannersPage(desk)
    below = "/studies/{study}/jobs/{job}"
    return [
        Route("/", studies.show),
        Route("/search", desk.form(studies.search), methods=["POST"]),
        Route("/studies/{study}", study.show),
        Route("/studies/{study}/results/{result}.dcm", study.download),
        Route(f"{below}/pictures", pictures.show),
        Route(f"{below}/slices/{{slice:int}}.png", pictures.image),
        Route(f"{below}/slices/{{slice:int}}/{{segment:int}}.png", pictures.layer),
        Route("/rules", rules.show),
        Route("/rules/study", desk.form(rules.choose), methods=["POST"]),
        Route("/rules/replay", desk.form(rules.replay), methods=["POST"]),
        Route("/models", models.show),
        Route("/models/{model}/{version}/scanners", scanners.show),
        Route("/models/{model}/{version}/scanners.png", scanners.image),
        Route("/peers", peers.show),
        Route("/login", signing.show),
        Route("/login", desk.form(signing.sign_in), methods=["POST"]),
        Route("/logout", desk.form(signing.sign_out), methods=["POST"]),
    ]


def _for_operators(desk: Desk) -> list[Route]:
    actions, peers = ActionPages(desk), PeersPage(desk)
    return [
        Route("/studies/{study}/series/{series}/route", actions.ask_route),
        Route("/studies/{study}/series/{series}/route", desk.form(actions.route),
              methods=["POST"]),
        Route("/studies/{study}/jobs/{job}/{action}", actions.ask),
        Route("/studies/{study}/jobs/{job}/{action}", desk.form(actions.do), methods=["POST"]),
        Route("/peers/{peer}", desk.form(peers.ask), methods=["POST"]),
    ]
