"""A report template for scores or quantities that none of the node's own templates reports.

One group on the whole image for each of them. What its words and codes are is for a person to say:
the names of the card stand in every language, and the codes are local ones.
"""

from __future__ import annotations

from ai_models.scaffold.draft import Draft
from ai_models.scaffold.structures import LOCAL_SCHEME, display_name, local_value

NAME = "report"
_PROCEDURES = {
    "CT": ("25045-6", "LN", "CT unspecified body region"),
    "MR": ("25056-3", "LN", "MRI unspecified body region"),
    "PT": ("44136-0", "LN", "PET unspecified body region"),
    "CR": ("43468-8", "LN", "XR unspecified body region"),
    "DX": ("43468-8", "LN", "XR unspecified body region"),
}
_ANY_PROCEDURE = ("363679005", "SCT", "Imaging procedure")
_HEAD = """\
# Written by `dicom-node models new`: what the model gives, in words and codes that a person must
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
_QUANTITY = """\
  {name}:
    concept: [{code}, {scheme}, {shown}]  # check: its concept
    unit: ["{unit}", UCUM, "{unit}"]  # check: as on the card, with its meaning
    decimals: 2
    # check: with the unit, in each language
    text: {{en: "{{value}}", de: "{{value}}", fr: "{{value}}", zh: "{{value}}"}}
"""
_GROUP = """\
- group: {name}
  name: {{en: {shown}, de: {shown}, fr: {shown}, zh: {shown}}}  # check: in each language
  category: ["49755003", SCT, Morphologically Abnormal Structure]
  finding: [{code}, {scheme}, {shown}]  # check: its code
  site: ["38266002", SCT, Entire body]  # check: where it is
  measurements: {{{name}: {quantity}}}
"""
_EVALUATION = "  evaluations: {{{name}: presence}}\n"
_NOTHING = """\
nothing_found:
  concept: ["111017", DCM, CAD Processing and Findings Summary]
  value: ["111241", DCM, All algorithms succeeded; without findings]
"""


def report_text(draft: Draft) -> str:
    """The text of ``report.yaml`` for the scores or quantities of a drafted card."""
    modalities: list[str] = draft.get("input.modality")
    procedures = "\n".join(
        f'  {one}: ["{code}", {scheme}, {meaning}]'
        for one in modalities for code, scheme, meaning in [_PROCEDURES.get(one, _ANY_PROCEDURE)]
    )
    text = _HEAD.format(name=NAME, procedures=procedures, scheme=LOCAL_SCHEME)
    is_score = draft.get("task") == "classification"
    entries = draft.get("output.scores" if is_score else "output.quantities")
    codes = _codes([one["name"] for one in entries])
    if is_score:
        text += _PROBABILITY
    else:
        text += "quantities:\n" + "".join(
            _QUANTITY.format(unit=one["unit"], **_words(one["name"], codes)) for one in entries
        )
    text += "image:\n"
    for one in entries:
        quantity = "probability" if is_score else one["name"]
        text += _GROUP.format(quantity=quantity, **_words(one["name"], codes))
        text += _EVALUATION.format(name=one["name"]) if is_score else ""
    return text + _NOTHING


def _words(name: str, codes: dict[str, str]) -> dict[str, str]:
    return {
        "name": name, "shown": display_name(name), "code": codes[name], "scheme": LOCAL_SCHEME,
    }


def _codes(names: list[str]) -> dict[str, str]:
    """A code value for each name, no two alike."""
    codes: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        value = local_value(name)
        codes[name] = f"{value[:11]}_{number}" if value in codes.values() else value
    return codes
