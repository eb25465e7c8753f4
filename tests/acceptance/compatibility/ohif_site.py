"""A web site on loopback: the built viewer, and an archive's DICOMweb on the same origin."""

from __future__ import annotations

import http.server
import mimetypes
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIGURATION = b"""window.config = {
  routerBasename: "/", extensions: [], modes: [], customizationService: {},
  showStudyList: true, maxNumberOfWebWorkers: 1, showErrorDetails: "always",
  showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  strictZSpacingForVolumeViewport: true, investigationalUseDialog: { option: "never" },
  defaultDataSourceName: "archive",
  dataSources: [{
    namespace: "@ohif/extension-default.dataSourcesModule.dicomweb", sourceName: "archive",
    configuration: {
      friendlyName: "archive", name: "archive", wadoUriRoot: "/dicom-web",
      qidoRoot: "/dicom-web", wadoRoot: "/dicom-web", qidoSupportsIncludeField: false,
      imageRendering: "wadors", thumbnailRendering: "wadors", enableStudyLazyLoad: true,
      supportsFuzzyMatching: false, supportsWildcard: true, staticWado: false,
      singlepart: "video,pdf", omitQuotationForMultipartRequest: true,
      bulkDataURI: { enabled: true, relativeResolution: "studies" },
    },
  }],
};"""


@contextmanager
def served(viewer: Path, archive_url: str) -> Iterator[str]:
    """Yield the address of the site while it runs."""

    class Handler(_Handler):
        folder, archive = viewer, archive_url

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    archive: str

    def log_message(self, *_: object) -> None:
        """Requests are not printed."""

    def do_GET(self) -> None:
        if self.path.startswith("/dicom-web"):
            self._from_archive()
        elif self.path.startswith("/app-config.js"):
            self._answer(200, "text/javascript", CONFIGURATION)
        else:
            self._from_folder()

    def _from_folder(self) -> None:
        wanted = (self.folder / self.path.split("?")[0].lstrip("/")).resolve()
        inside = wanted.is_file() and wanted.is_relative_to(self.folder.resolve())
        # The viewer's own addresses (/viewer?...) are all the one page.
        path = wanted if inside else self.folder / "index.html"
        kind = "application/wasm" if path.suffix == ".wasm" else mimetypes.guess_type(path.name)[0]
        self._answer(200, kind or "application/octet-stream", path.read_bytes())

    def _from_archive(self) -> None:
        # The archive writes addresses of bulk data with the host that it was asked under.
        kept = {name: self.headers[name] for name in ("Accept", "Host") if name in self.headers}
        request = urllib.request.Request(self.archive + self.path, headers=kept)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                kind = response.headers.get("Content-Type", "application/octet-stream")
                self._answer(response.status, kind, response.read())
        except urllib.error.HTTPError as failure:
            self._answer(failure.code, "text/plain", failure.read())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        # Shared memory between workers, which the viewer decodes with, needs both.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
        self.wfile.write(body)
