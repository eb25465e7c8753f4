"""A report template for scores or quantities that none of the node's own templates reports.

One group on the whole image for each of them. What its words and codes are is for a person to say:
the names of the card stand in every language, and the codes are local ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ai_models.scaffold.draft import Draft
from ai_models.scaffold.structures import ABNORMAL, LOCAL_SCHEME, coded, label_entries

NAME = "report"
_PROCEDURES = {
    "CT": ("25045-6", "LN", "CT unspecified body region"),
    "MR": ("25056-3", "LN", "MRI unspecified body region"),
    "PT": ("44136-0", "LN", "PET unspecified body region"),
    "CR": ("43468-8", "LN", "XR unspecified body region"),
    "DX": ("43468-8", "LN", "XR unspecified body region"),
}
_ANYWHERE = {"value": "38266002", "scheme": "SCT", "meaning": "Entire body"}
_ANY_PROCEDURE = ("363679005", "SCT", "Imaging procedure")
_HEAD = """\
# Written by `{writer}`: what the model gives, in words and codes that a person must
# check (docs/reports.md). {scheme} is nobody's coding scheme: SNOMED CT may have better codes.
name: {name}
title: ["126000", DCM, Imaging Measurement Report]
procedure_reported:
{procedures}
coding_schemes:
  {scheme}: {{name: Concepts of this model, responsible_organization: Not stated}}  # check: yours
"""
_PROBABILITY = """\
quantities:
  probability:
    concept: ["122157", DCM, Probability]
    unit: ["1", UCUM, no units]
    decimals: 3
    minimum: 0
    maximum: 1
    text:
      en: "probability {value}"
      de: "Wahrscheinlichkeit {value}"
      fr: "probabilité {value}"
      zh: "概率 {value}"
scales:
  presence:
    concept: ["121052", DCM, Presence of property]
    steps:
    - at_least: 0.7        # check: from where on it counts as present
      value: ["52101004", SCT, Present]
      text: {en: present, de: vorhanden, fr: présent, zh: 存在}
    - at_least: 0.3        # check: below it, absent
      value: ["373068000", SCT, Undetermined]
      text: {en: undetermined, de: unbestimmt, fr: indéterminé, zh: 不确定}
    - value: ["272519000", SCT, Absent]
      text: {en: absent, de: nicht vorhanden, fr: absent, zh: 不存在}
      negative: true
"""
THRESHOLDS = "present from 0.7, undetermined from 0.3, absent below 0.3"
"""Of the scale that scores get."""
_QUANTITY = """\
  "{name}":
    concept: {finding}  # check: its concept
    unit: ["{unit}", UCUM, "{unit}"]  # check: as on the card, with its meaning
    decimals: 2
    # check: with the unit, in each language
    text: {{en: "{{value}}", de: "{{value}}", fr: "{{value}}", zh: "{{value}}"}}
"""
_GROUP = """\
- group: "{name}"
  name: {{en: "{shown}", de: "{shown}", fr: "{shown}", zh: "{shown}"}}  # check: in each language
  category: {category}
  finding: {finding}  # check: its code
  site: {site}  # check: where it is
  measurements: {{"{name}": "{quantity}"}}
"""
_EVALUATION = '  evaluations: {{"{name}": presence}}\n'
_NOTHING = """\
nothing_found:
  concept: ["111017", DCM, CAD Processing and Findings Summary]
  value: ["111241", DCM, All algorithms succeeded; without findings]
"""


def report_text(draft: Draft, writer: str = "dicom-node models new") -> str:
    """The text of ``report.yaml`` for the scores or quantities of a drafted card; ``writer`` is the
    command that drafts it."""
    modalities: list[str] = draft.get("input.modality")
    procedures = "\n".join(
        f'  {one}: ["{code}", {scheme}, {meaning}]'
        for one in modalities for code, scheme, meaning in [_PROCEDURES.get(one, _ANY_PROCEDURE)]
    )
    text = _HEAD.format(
        writer=writer, name=NAME, procedures=procedures, scheme=LOCAL_SCHEME,
    )
    is_score = draft.get("task") == "classification"
    entries = draft.get("output.scores" if is_score else "output.quantities")
    words = _words([one["name"] for one in entries])
    if is_score:
        text += _PROBABILITY
    else:
        text += "quantities:\n" + "".join(
            _QUANTITY.format(unit=one["unit"], **said)
            for one, said in zip(entries, words, strict=True)
        )
    text += "image:\n"
    for said in words:
        text += _GROUP.format(quantity="probability" if is_score else said["name"], **said)
        text += _EVALUATION.format(**said) if is_score else ""
    return text + _NOTHING


def _words(names: Sequence[str]) -> list[dict[str, str]]:
    """What stands in the group of each name: codes where a short list has them, local ones else."""
    return [
        {
            "name": name, "shown": entry["name"], "category": _code(_category(entry)),
            "finding": _code(entry["type"]), "site": _code(entry.get("anatomic_region", _ANYWHERE)),
        }
        for name, (entry, _) in zip(names, label_entries(names), strict=True)
    ]


def _category(entry: Mapping[str, Any]) -> Mapping[str, str]:
    """Of what no list knows: something that was found, not a part of the body."""
    is_known = entry["type"]["scheme"] != LOCAL_SCHEME
    category: Mapping[str, str] = entry["category"]
    return category if is_known else coded(ABNORMAL)


def _code(entry: Mapping[str, str]) -> str:
    return f'["{entry["value"]}", {entry["scheme"]}, "{entry["meaning"]}"]'
