"""How the scanners of a site look to one version of a model: a table, and a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.errors import NodeError
from dicom_node.operations.web.desk import Desk

_Method = Literal["pca", "tsne"]
_T = TypeVar("_T")
# Of a site and not of a patient; a new input changes it.
_KEPT_BY_BROWSER = {"cache-control": "private, max-age=60"}


class ScannersPage:
    """``/models/{model}/{version}/scanners`` and its PNG."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def show(self, request: Request) -> Response:
        """The page."""
        model_id, version = self._named(request)
        scanners = self._desk.ports.scanners
        document = _asked(lambda: scanners.document(model_id, version))
        return self._desk.page(
            request, "scanners.html", seen=document, method=_method(request),
        )

    def image(self, request: Request) -> Response:
        """All inputs as points of a plane."""
        model_id, version = self._named(request)
        method, scanners = _method(request), self._desk.ports.scanners
        content = _asked(lambda: scanners.picture(model_id, version, method))
        return Response(content, media_type="image/png", headers=_KEPT_BY_BROWSER)

    def _named(self, request: Request) -> tuple[str, str]:
        """Model and version, of those that anything is kept of."""
        named = (request.path_params["model"], request.path_params["version"])
        if named not in self._desk.ports.scanners.versions():
            raise HTTPException(404, "Nothing is kept of the inputs of this version.")
        return named


def _asked(ask: Callable[[], _T]) -> _T:
    try:
        return ask()
    except NodeError as error:
        raise HTTPException(409, f"{error} ({error.reason})") from error


def _method(request: Request) -> _Method:
    return "tsne" if request.query_params.get("method") == "tsne" else "pca"
