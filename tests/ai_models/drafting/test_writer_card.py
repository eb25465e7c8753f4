"""The card of a writer says who writes, and is refused with the line where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.drafting.writer_card import load_writer_card, why_writer_refused
from ai_models.trust import Endpoint, Site
from ai_models.types import CardError
from tests.ai_models.drafting.writers import writer_folder

FOLDER = {"path": "model", "sha256": "0" * 64, "licence": "MIT", "source": "test"}
HERE = {"writer": "huggingface", "endpoint": None, "weights": FOLDER}


def test_card_of_a_host_names_its_model(tmp_path: Path) -> None:
    card = load_writer_card(writer_folder(tmp_path))
    assert (card.identity.id, card.identity.model, card.identity.sha256) == (
        "radiology-llama", "radiology-8b", "",
    )
    assert card.folder == tmp_path


def test_card_of_a_folder_states_the_digests_of_model_and_adapter(tmp_path: Path) -> None:
    adapter = {"path": "adapter", "sha256": "1" * 64}
    card = load_writer_card(writer_folder(tmp_path, **HERE, adapter=adapter))
    assert card.identity.sha256 == f"{'0' * 64}+{'1' * 64}"


@pytest.mark.parametrize(("changes", "message"), [
    ({"prompt": "x"}, "prompt: unknown key"),
    ({"licence": None}, "licence: required and absent"),
    ({"endpoint": None}, "endpoint: required of openai"),
    ({"precision": "nf4"}, "precision: of huggingface"),
    ({"adapter": {"path": "a", "sha256": "1" * 64}}, "adapter: of huggingface"),
    ({**HERE, "endpoint": {"name": "a", "model": "b"}}, "endpoint: of openai"),
    ({**HERE, "weights": {"licence": "MIT", "source": "x"}}, "weights: path and sha256"),
    ({**HERE, "weights": {**FOLDER, "path": "../model"}}, "weights.path: must lie in"),
    ({**HERE, "adapter": {"path": "/a", "sha256": "1" * 64}}, "adapter.path: must lie in"),
    ({"max_tokens": 1}, "max_tokens:"),
])
def test_wrong_card_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(CardError) as refused:
        load_writer_card(writer_folder(tmp_path, **changes))
    assert message in str(refused.value)
    assert "writer.yaml" in str(refused.value)


def test_site_refuses_hosts_that_it_does_not_name_and_licences_that_it_may_not_use(
    tmp_path: Path,
) -> None:
    card = load_writer_card(writer_folder(tmp_path))
    endpoints = {"language": Endpoint("http://127.0.0.1:1")}
    assert why_writer_refused(card, Site(endpoints=endpoints)) is None
    assert "not in models.endpoints" in (why_writer_refused(card, Site()) or "")
    clinical = Site(use="clinical", endpoints=endpoints)
    assert "demonstration" in (why_writer_refused(card, clinical) or "")
    weights = {"licence": "CC-BY-NC-4.0", "source": "test"}
    strict = load_writer_card(writer_folder(tmp_path, demonstration=False, weights=weights))
    assert "licence of its weights" in (why_writer_refused(strict, clinical) or "")
