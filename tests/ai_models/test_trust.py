"""A site runs what it allows, and nothing because a card says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.card import Card, load_card
from ai_models.trust import Endpoint, Site, why_not_clinical, why_refused
from tests.ai_models.tiny_models import card_text, card_values, write_model

CLINICAL = Site(use="clinical")
RESEARCH_ONLY = [
    "CC-BY-NC-4.0", "CC BY-NC-SA 4.0", "cc-by-nc-nd-4.0", "CC-BY-NC-SA-4.0", "CC_BY_NC_4.0",
    "CC BY NC 4.0", "Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International",
    "Creative Commons Attribution Non Commercial 4.0", "PolyForm-Noncommercial-1.0.0",
    "MSRLA", "Microsoft Research License Agreement (MSRLA)", "LLaMA-1", "llama1", "LLaMA",
    "LLaMA License", "NVIDIA Source Code License-NC", "NVIDIA Source Code License",
    "NVIDIA non-commercial", "NVIDIA OneWay Noncommercial License", "NSCLv1", "NCGL-UK-2.0",
    "research only", "Research-only", "For research use only", "for Research Purposes Only",
    "academic use only", "Academic and research use only", "for research and educational purposes",
    "Non-commercial research license", "not for commercial use", "no commercial use",
    "Commercial use is not permitted", "commercial use prohibited", "evaluation only",
    "only for research", "apple-amlr", "intel-research", "fair-noncommercial-research-license",
]
NO_LICENCE = [
    "", "   ", "-", "none", "None", "NONE", "NOASSERTION", "unlicensed", "UNLICENSED", "custom",
    "Custom", "other", "unknown", "n/a", "tbd", "see LICENSE", "see LICENSE file", "no license",
    "no licence file", "(c) 2020 Example. All rights reserved",
]
OPEN = [
    "Apache-2.0", "Apache License, Version 2.0", "MIT", "MIT-0", "BSD-3-Clause", "0BSD", "ISC",
    "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-ND-4.0", "CC0-1.0", "MPL-2.0", "GPL-3.0", "GPL-3.0-only",
    "GPL-3.0-or-later", "LGPL-3.0-only", "AGPL-3.0", "EUPL-1.2", "NCSA",
    "University of Illinois/NCSA", "NIST-PD", "Unlicense", "The Unlicense", "AFL-3.0",
    "Academic Free License v3.0", "NPOSL-3.0", "Microsoft Public License", "ODC-By-1.0",
    "NVIDIA Open Model License", "Llama 2 Community License", "llama2", "Llama-3.1",
    "Meta Llama 3 Community License", "LLAMA 3.2 COMMUNITY LICENSE", "Gemma Terms of Use",
    "Health AI Developer Foundations terms", "Apache 2.0 (code), CC-BY-4.0 (data)",
    "LicenseRef-Hospital-Contract-17", "Commercial licence of Example",
    "internal use of our hospital only",
]


def card_with(folder: Path, **changes: object) -> Card:
    return load_card(write_model(folder / "m", b"weights", **{
        "demonstration": False, "weights__licence": "Apache-2.0", **changes,
    }))


@pytest.mark.parametrize("licence", RESEARCH_ONLY)
def test_licence_for_research_only_is_known_by_its_words(licence: str) -> None:
    assert "research only" in (why_not_clinical(licence) or "")


@pytest.mark.parametrize("licence", NO_LICENCE)
def test_licence_that_names_none_is_none(licence: str) -> None:
    assert "which is none" in (why_not_clinical(licence) or "")


@pytest.mark.parametrize("licence", OPEN)
def test_licence_that_forbids_nothing_passes(licence: str) -> None:
    assert why_not_clinical(licence) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"demonstration": True}, "demonstration"),
        ({"licence": "CC-BY-NC-4.0"}, "the licence of its code is CC-BY-NC-4.0"),
        ({"weights__licence": "CC BY-NC-SA 4.0"}, "the licence of its weights is CC BY-NC-SA 4.0"),
        ({"weights__licence": ""}, "the licence of its weights is ''"),
        ({"licence": "custom"}, "the licence of its code is 'custom'"),
    ],
)
def test_clinical_site_refuses_demonstrations_and_what_has_no_licence_for_it(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    card = card_with(tmp_path, **changes)
    assert words in (why_refused(card, CLINICAL) or "")
    assert why_refused(card, Site()) is None


def test_clinical_site_takes_an_open_model(tmp_path: Path) -> None:
    assert why_refused(card_with(tmp_path), CLINICAL) is None


def program(folder: Path, **changes: object) -> Card:
    (folder / "m").mkdir(parents=True)
    values = card_values(
        runtime={"backend": "command", "command": {"run": ["program"]}}, trust={"program": True},
        weights__path="weights", **changes,
    )
    (folder / "m" / "model.yaml").write_text(card_text(values))
    return load_card(folder / "m")


def test_what_a_card_wants_to_be_trusted_with_needs_a_trusted_folder(tmp_path: Path) -> None:
    card = program(tmp_path)
    assert "asks for trust.program" in (why_refused(card, Site()) or "")
    assert why_refused(card, Site(trusted_folders=(tmp_path / "other",))) is not None
    assert why_refused(card, Site(trusted_folders=(tmp_path,))) is None


def test_a_link_does_not_bring_a_folder_into_a_trusted_one(tmp_path: Path) -> None:
    card = program(tmp_path / "anywhere")
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "m").symlink_to(card.folder)
    site = Site(trusted_folders=(trusted,))
    assert not site.trusts(trusted / "m")
    assert why_refused(load_card(trusted / "m"), site) is not None


def test_a_folder_whose_name_begins_like_a_trusted_one_is_not_trusted(tmp_path: Path) -> None:
    assert not Site(trusted_folders=(tmp_path / "good",)).trusts(tmp_path / "good-and-bad")
    assert not Site(trusted_folders=(tmp_path / "good",)).trusts(tmp_path / "good" / ".." / "bad")


def test_only_a_host_of_the_settings_is_asked(tmp_path: Path) -> None:
    values = card_values(
        weights={"licence": "MIT", "source": "another host"},
        runtime={
            "backend": "open_inference", "roi": [16, 16, 16],
            "endpoint": {"name": "farm", "model": "bright"},
        },
    )
    (tmp_path / "model.yaml").write_text(card_text(values))
    card = load_card(tmp_path)
    assert "not in models.endpoints (there: none)" in (why_refused(card, Site()) or "")
    elsewhere = Site(endpoints={"other": Endpoint("http://localhost:1")})
    assert "there: other" in (why_refused(card, elsewhere) or "")
    assert why_refused(card, Site(endpoints={"farm": Endpoint("http://localhost:1")})) is None
