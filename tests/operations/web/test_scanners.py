"""How scanners look to a model, on the page: a table, a picture, and nothing of a patient."""

from __future__ import annotations

import numpy as np
from starlette.testclient import TestClient

from tests.operations.web.conftest import Site

PAGE = "/models/balls/1.0/scanners"


def _keep(site: Site) -> None:
    random = np.random.default_rng(1)
    for scanner, count, at in (("ACME, <A>", 70, 0.0), ("ACME, B", 25, 4.0), ("Few", 2, 0.0)):
        for number in range(count):
            row = random.normal(at, 1, 6)
            site.ledger.features.keep(
                f"{scanner}{number}", "balls", "1.0", scanner, [float(one) for one in row]
            )


def test_every_scanner_is_shown_with_its_figures(site: Site, viewer: TestClient) -> None:
    _keep(site)
    page = viewer.get(PAGE)
    assert page.status_code == 200
    assert "ACME, &lt;A&gt;" in page.text and "the first 50 at this site" in page.text
    assert page.text.count("<strong>unlike the reference</strong>") == 1
    assert "2 of 20 inputs" in page.text


def test_the_picture_is_a_png_in_both_ways(site: Site, viewer: TestClient) -> None:
    _keep(site)
    for method in ("pca", "tsne", "another"):
        picture = viewer.get(f"{PAGE}.png?method={method}")
        assert picture.headers["content-type"] == "image/png"
        assert picture.content.startswith(b"\x89PNG")


def test_a_version_of_which_nothing_is_kept_has_no_page(viewer: TestClient) -> None:
    assert viewer.get(PAGE).status_code == 404
    assert viewer.get(f"{PAGE}.png").status_code == 404


def test_the_page_is_not_for_strangers(site: Site) -> None:
    _keep(site)
    stranger = site.with_tokens()
    for page in (PAGE, f"{PAGE}.png"):
        assert stranger.get(page).status_code in (303, 401)
