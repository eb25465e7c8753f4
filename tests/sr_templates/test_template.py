from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import sr_templates
from sr_templates.template import ReportTemplate, TemplateError, load_template

LUNGS = yaml.safe_load((Path(sr_templates.__file__).parent / "lungs.yaml").read_text())


def write(folder: Path, **changes: object) -> Path:
    (folder / "mine.yaml").write_text(yaml.safe_dump({**LUNGS, **changes}))
    return folder


def test_every_template_of_the_project_loads() -> None:
    for path in Path(sr_templates.__file__).parent.glob("*.yaml"):
        assert load_template(path.stem).name == path.stem


def test_the_lungs_are_measured_by_volume_mean_and_deviation() -> None:
    rows = load_template("lungs").volumetric
    assert [row.measurement for row in rows] == ["volume_ml", "mean_hu", "standard_deviation_hu"]
    assert [row.unit.value for row in rows] == ["ml", "[hnsf'U]", "[hnsf'U]"]
    assert all(row.unit.scheme == "UCUM" for row in rows)


@pytest.mark.parametrize(
    "changes",
    [
        {"surprise": 1},
        {"title": ["126000", "DCM"]},
        {"title": [126000, "DCM", "Imaging Measurement Report"]},
        {"volumetric": None},
        {"narrative": {**LUNGS["narrative"], "finding": "{label.__class__}"}},
        {"narrative": {**LUNGS["narrative"], "computed": "{password}"}},
        {"narrative": {**LUNGS["narrative"], "computed": "{algorithm!r:>99999}"}},
    ],
)
def test_a_template_of_another_form_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(TemplateError, match="mine.yaml"):
        load_template("mine", write(tmp_path, **changes))


@pytest.mark.parametrize("name", ["", "nothing", "../lungs", "/etc/passwd", "lungs.yaml"])
def test_a_name_that_is_no_template_is_refused(name: str) -> None:
    with pytest.raises(TemplateError, match="no report template"):
        load_template(name)


def test_yaml_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: [")
    with pytest.raises(TemplateError):
        load_template("mine", tmp_path)


def test_a_template_of_ones_own_loads(tmp_path: Path) -> None:
    assert isinstance(load_template("mine", write(tmp_path, name="mine")), ReportTemplate)
