from __future__ import annotations

import os
from pathlib import Path

import pytest

from sr_templates.contradictions import codes_in
from sr_templates.declined import load_declined
from sr_templates.narrative import Narrator
from sr_templates.numbers import evaluated, measured
from sr_templates.template import (
    FOLDER,
    NOT_TEMPLATES,
    TemplateError,
    load_sentences,
    load_template,
)

TEMPLATES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in NOT_TEMPLATES)
LUNGS = (FOLDER / "lungs.yaml").read_text(encoding="utf-8")
CHEST = (FOLDER / "chest_radiograph.yaml").read_text(encoding="utf-8")


def write(folder: Path, text: str, *changes: tuple[str, str]) -> Path:
    """``mine.yaml`` in ``folder``: ``text`` with each (old, new) replaced once."""
    text = text.replace("name: lungs", "name: mine").replace("name: chest_radiograph", "name: mine")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_of_the_project_loads(name: str) -> None:
    assert load_template(name).name == name


def known_codes() -> dict[tuple[str, str], set[str]]:
    """Meanings of every code in pydicom's copy of PS3.16."""
    from pydicom.sr._concepts_dict import concepts

    known: dict[tuple[str, str], set[str]] = {}
    for scheme, entries in concepts.items():
        for codes in entries.values():
            for value, (meaning, _) in codes.items():
                known.setdefault((scheme, value), set()).add(meaning)
    return known


@pytest.mark.parametrize("name", [*TEMPLATES, "declined"])
def test_every_code_is_one_of_the_standard_with_its_meaning_or_of_our_scheme(name: str) -> None:
    template = load_declined() if name == "declined" else load_template(name)
    known = known_codes()
    for key_path, code in codes_in(template):
        # UCUM is a grammar: PS3.16 lists only some of its units.
        if code.scheme == "UCUM" and (code.scheme, code.value) not in known:
            assert (code.value, code.meaning) == ("ml", "milliliter"), key_path
        elif code.scheme != "99DCMNODE":
            assert code.meaning in known.get((code.scheme, code.value), set()), key_path


def test_a_code_of_our_scheme_has_one_meaning() -> None:
    meanings: dict[str, set[str]] = {}
    for template in [load_declined(), *(load_template(name) for name in TEMPLATES)]:
        for _, code in codes_in(template):
            if code.scheme == "99DCMNODE":
                meanings.setdefault(code.value, set()).add(code.meaning)
    assert [value for value, found in meanings.items() if len(found) > 1] == []


def test_every_language_says_something_of_its_own() -> None:
    sentences = load_sentences()
    for key in ("computed", "not_found", "nothing_found", "partial"):
        wording = getattr(sentences, key)
        assert len({wording.en, wording.de, wording.fr, wording.zh}) == 4


@pytest.mark.parametrize(
    ("change", "key_path", "message"),
    [
        (("title:", "surprise: 1\ntitle:"), "surprise", "unknown key"),
        (('title: ["126000", DCM, ', 'title: ["126000", "", '), "title", "coding scheme of a code"),
        (('["126000", DCM,', "[126000, DCM,"), "title", "each a string"),
        (('["126000", DCM,', '["12\\\\6", DCM,'), "title", "no backslash"),
        (("nothing_found:", "nothing_lost:"), "nothing_lost", "unknown key"),
        (('nothing_found:\n  concept: ["111017", DCM, CAD Processing and Findings Summary]\n'
          '  value: ["111241", DCM, All algorithms succeeded; without findings]\n', ""),
         "nothing_found", "required where there are groups"),
        (("decimals: 1", "decimals: 9"), "quantities.volume.decimals", "less than or equal to 6"),
        (("decimals: 1", "decimals: true"), "quantities.volume.decimals", "integer"),
        (("decimals: 1", "decimals: 1.5"), "quantities.volume.decimals", "integer"),
        ((', fr: Poumon droit', ""), "names.Right lung.fr", "required and absent"),
        (('en: "{value} ml"', 'en: "{volume} ml"'), "quantities.volume.text.en", "{volume}"),
        (('zh: "{value} ml"', 'zh: "{value!r}"'), "quantities.volume.text.zh", "{value}"),
        (('fr: "{value} ml"', 'fr: "{value ml"'), "quantities.volume.text.fr", "braces"),
        (("de: Beide Lungen", 'de: "{x}"'), "volumetric.total.name.de", "there are: none"),
        (("area_mm2: area", "area_mm2: surface"), "planar.measurements.area_mm2", "'surface'"),
        (("volume_ml: volume\n", "\n"), "quantities.volume", "used by no group"),
        (("    volume_ml: volume\n", "    volume_ml: volume\n    volume_ml: volume\n"),
         "volumetric.measurements.volume_ml", "written twice"),
        (("minimum: 0", "minimum: 0\n    maximum: -1"), "quantities.volume.minimum", "less than"),
        (("volume_ml: volume", "volume ml: volume"),
         "volumetric.measurements.volume ml", "letters"),
        (('["126000", DCM', '["126000", 99ELSEWHERE'), "title", "not described"),
        (("minimum: 0", "minimum: .nan"), "quantities.volume.minimum", "finite"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_file_line_and_key(
    tmp_path: Path, change: tuple[str, str], key_path: str, message: str
) -> None:
    write(tmp_path, LUNGS, change)
    with pytest.raises(TemplateError) as refused:
        load_template("mine", tmp_path)
    text = str(refused.value)
    place, found, rest = text.split(": ", 2)
    line = int(place.removeprefix(f"{tmp_path / 'mine.yaml'}:"))
    assert found == key_path
    assert message in rest
    lines = (tmp_path / "mine.yaml").read_text(encoding="utf-8").splitlines()
    last_key = key_path.rsplit(".", 1)[-1]
    if "absent" not in rest:
        assert last_key in lines[line - 1]


@pytest.mark.parametrize(
    ("change", "key_path", "message"),
    [
        (("at_least: 0.3", "at_least: 0.8"), "scales.presence.steps[1].at_least", "less than 0.7"),
        (("at_least: 0.3", "at_least: 0.7"), "scales.presence.steps[1].at_least", "less than 0.7"),
        (("- at_least: 0.3\n      value", "- value"), "scales.presence.steps[1]", "every step but"),
        (("- value: [\"272519000\"", "- at_least: 0\n      value: [\"272519000\""),
         "scales.presence.steps[2].at_least", "takes the rest"),
        (("group: pleural_effusion", "group: pneumothorax"), "image[1].group", "already a group"),
    ],
)  # fmt: skip
def test_thresholds_and_groups_that_contradict_each_other_are_refused(
    tmp_path: Path, change: tuple[str, str], key_path: str, message: str
) -> None:
    write(tmp_path, CHEST, change)
    with pytest.raises(TemplateError) as refused:
        load_template("mine", tmp_path)
    assert f": {key_path}: " in str(refused.value)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "mine.yaml:1"),
        ("", "mapping of keys"),
        ("- 1", "mapping of keys"),
        ("a: &x 1\nb: *x", "aliases"),
        ("a: !!python/object:os.system 1", "mine.yaml"),
        ("a: " + "1" * 300_000, "longer than"),
        ("a: " + "[" * 30_000, "nested too deeply"),
        ("{a: " * 5000, "nested too deeply"),
        ("name: 2026-99-99", "mine.yaml:1: '2026-99-99' cannot be read as timestamp"),
        ("name: " + "9" * 5000, "cannot be read as int"),
        ("name: !!bool perhaps", "cannot be read as bool"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(TemplateError, match=message):
        load_template("mine", tmp_path)


@pytest.mark.parametrize(
    "name", ["", "nothing", "../lungs", "/etc/passwd", "lungs.yaml", "declined", "sentences"]
)
def test_a_name_that_is_no_template_is_refused(name: str) -> None:
    with pytest.raises(TemplateError, match="no report template"):
        load_template(name)


def test_a_template_beside_a_model_goes_before_that_of_the_project(tmp_path: Path) -> None:
    assert load_template("mine", write(tmp_path, LUNGS)).name == "mine"
    (tmp_path / "lungs.yaml").write_text(LUNGS + "\n", encoding="utf-8")
    assert load_template("lungs", tmp_path).fingerprint != load_template("lungs").fingerprint
    assert load_template("bone_age", tmp_path) is load_template("bone_age")


def test_a_template_that_is_changed_counts_from_then_on(tmp_path: Path) -> None:
    before = load_template("mine", write(tmp_path, LUNGS)).title
    old = '["126000", DCM, Imaging Measurement Report]'
    new = '["126001", DCM, Oncology Measurement Report]'
    assert load_template("mine", write(tmp_path, LUNGS, (old, new))).title != before
    (tmp_path / "mine.yaml").write_text("name: [", encoding="utf-8")
    with pytest.raises(TemplateError, match="mine.yaml"):
        load_template("mine", tmp_path)


def test_a_pipe_in_the_place_of_a_template_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mine.yaml")
    with pytest.raises(TemplateError, match="no report template"):
        load_template("mine", tmp_path)


def test_a_template_is_named_as_its_file(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(LUNGS, encoding="utf-8")
    with pytest.raises(TemplateError, match="name: must be that of the file"):
        load_template("other", tmp_path)


def test_a_private_scheme_that_is_described_may_be_used(tmp_path: Path) -> None:
    scheme = (
        "coding_schemes:\n  99MINE: {name: Mine, responsible_organization: Me}\n"
        'title: ["1", 99MINE, Mine]\n'
    )
    line = 'title: ["126000", DCM, Imaging Measurement Report]\n'
    template = load_template("mine", write(tmp_path, LUNGS, (line, scheme)))
    assert template.title.scheme == "99MINE"


def test_the_example_of_the_documentation_loads(tmp_path: Path) -> None:
    page = (FOLDER.parent / "docs" / "reports.md").read_text(encoding="utf-8")
    example = page.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "my_report.yaml").write_text(example, encoding="utf-8")
    template = load_template("my_report", tmp_path)
    numbers = {"haemorrhage": 0.912, "haemorrhage_ml": 12.3}
    (group,) = template.image
    said = Narrator("en", template.sentences).finding(
        group.name.en, measured(template, group, numbers), evaluated(template, group, numbers)
    )
    assert " ".join(page.split("is told *")[1].split("*")[0].split()) == said


def test_the_documentation_names_every_template_and_every_number_of_it() -> None:
    page = (FOLDER.parent / "docs" / "reports.md").read_text(encoding="utf-8")
    assert [name for name in TEMPLATES if f"| `{name}` |" not in page] == []
    for name in TEMPLATES:
        if name != "chest_radiograph":
            for group in load_template(name).image:
                assert [one for one in group.measurements if f"`{one}`" not in page] == []
