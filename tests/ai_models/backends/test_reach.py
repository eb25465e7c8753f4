"""A card reaches the host that the site names for it, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.backends.reach import Address, address_of, endpoint_of, reachable
from ai_models.card import Card, load_card
from ai_models.trust import Endpoint, Site
from ai_models.types import ModelError
from tests.ai_models.tiny_models import card_text, card_values


def served_card(folder: Path, backend: str = "open_inference", **changes: object) -> Card:
    values = card_values(
        runtime__backend=backend,
        runtime__endpoint={"name": "gpu-farm", "model": "bright"},
        weights={"licence": "none", "source": "test"},
        **changes,
    )
    (folder / "model.yaml").write_text(card_text(values))
    return load_card(folder)


@pytest.mark.parametrize(("url", "expected"), [
    ("http://Triton.local:8000", Address("http", "triton.local", 8000)),
    ("https://gpu/serving/", Address("https", "gpu", 443, "/serving")),
    ("http://gpu", Address("http", "gpu", 80)),
    ("grpc://10.0.0.7", Address("grpc", "10.0.0.7", 8001)),
    ("grpcs://[fd00::7]:9000", Address("grpcs", "fd00::7", 9000)),
])
def test_url_is_taken_apart(url: str, expected: Address) -> None:
    assert address_of(Endpoint(url)) == expected


def test_ipv6_address_stands_in_brackets_before_its_port() -> None:
    assert address_of(Endpoint("http://[fd00::7]:9000")).authority == "[fd00::7]:9000"


@pytest.mark.parametrize("url", [
    "ftp://gpu", "gpu:8000", "http://", "http://gpu:99999", "http://gpu:0", "http://[fd00",
    "http://user:secret@gpu", "http://gpu?key=secret", "http://gpu#x", "",
    "http://röntgen.example",
])
def test_url_that_is_not_usable_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ModelError) as caught:
        address_of(Endpoint(url))
    assert caught.value.reason == "model.endpoint_wrong"
    assert "secret" not in str(caught.value)


def test_card_reaches_the_host_of_its_endpoint_only(tmp_path: Path) -> None:
    site = Site(endpoints={
        "gpu-farm": Endpoint("http://gpu:8000"), "other": Endpoint("http://other:1"),
    })
    assert reachable(served_card(tmp_path), site) == {("gpu", 8000)}


def test_model_beside_its_card_reaches_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(card_text(card_values()))
    site = Site(endpoints={"gpu-farm": Endpoint("http://gpu:8000")})
    assert reachable(load_card(tmp_path), site) == frozenset()


def test_endpoint_that_the_site_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'gpu-farm'.*there: other") as caught:
        endpoint_of(served_card(tmp_path), Site(endpoints={"other": Endpoint("http://other")}))
    assert caught.value.reason == "model.endpoint_unknown"


def test_served_card_without_an_endpoint_reaches_nothing(tmp_path: Path) -> None:
    card = served_card(tmp_path)
    bare = card.model_copy(
        update={"runtime": card.runtime.model_copy(update={"endpoint": None})}
    )
    with pytest.raises(ModelError, match=r"runtime\.endpoint") as caught:
        reachable(bare, Site())
    assert caught.value.reason == "model.endpoint_unknown"
