"""What cannot be in a template although every key of it is well formed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel

from ai_models.types import Code
from sr_templates.codes import PRIVATE_SCHEMES
from sr_templates.entries import Wording
from sr_templates.report_template import Group, ImageGroup, ReportTemplate, Scale
from sr_templates.sentences import PLACEHOLDERS, AllSentences, Sentences

Problem = tuple[str, str]
_NOTHING = frozenset[str]()
_VALUE = frozenset({"value"})


def template_contradictions(template: ReportTemplate) -> Iterator[Problem]:
    """(key path, what is wrong) of everything that contradicts itself."""
    if template.has_groups and template.nothing_found is None:
        yield "nothing_found", "required where there are groups, and absent"
    for name, scale in template.scales.items():
        yield from _scale_problems(scale, f"scales.{name}")
    yield from _range_problems(template)
    yield from _group_problems(template)
    yield from _placeholder_problems(template)
    yield from sentence_contradictions(template.sentences, "sentences.")
    yield from _scheme_problems(template)


def sentence_contradictions(
    sentences: Sentences | AllSentences, prefix: str = ""
) -> Iterator[Problem]:
    """Placeholders that nothing fills."""
    for key, allowed in PLACEHOLDERS.items():
        wording = getattr(sentences, key)
        if wording is not None:
            yield from placeholder_contradictions(wording, f"{prefix}{key}", allowed)


def placeholder_contradictions(
    wording: Wording, key_path: str, allowed: frozenset[str]
) -> Iterator[Problem]:
    """Placeholders of ``wording`` that are not in ``allowed``."""
    for language, message in wording.wrong_placeholders(allowed):
        yield f"{key_path}.{language}", message


def _scale_problems(scale: Scale, key_path: str) -> Iterator[Problem]:
    bounds = [step.at_least for step in scale.steps]
    for position, bound in enumerate(bounds):
        where = f"{key_path}.steps[{position}]"
        last = position == len(bounds) - 1
        if last and bound is not None:
            yield f"{where}.at_least", "the last step takes the rest and has no bound"
        if not last and bound is None:
            yield where, "at_least is required in every step but the last"
        earlier = bounds[position - 1] if position else None
        if bound is not None and earlier is not None and bound >= earlier:
            yield f"{where}.at_least", f"must be less than {earlier:g} of the step before it"


def _range_problems(template: ReportTemplate) -> Iterator[Problem]:
    for name, quantity in template.quantities.items():
        low, high = quantity.minimum, quantity.maximum
        if low is not None and high is not None and low >= high:
            yield f"quantities.{name}.minimum", "must be less than the maximum"


def _groups(template: ReportTemplate) -> Iterator[tuple[str, Group]]:
    if template.volumetric is not None:
        yield "volumetric", template.volumetric
    if template.planar is not None:
        yield "planar", template.planar
    for position, group in enumerate(template.image):
        yield f"image[{position}]", group


def _group_problems(template: ReportTemplate) -> Iterator[Problem]:
    used_quantities, used_scales, names = set(), set(), set()
    for where, group in _groups(template):
        for number, quantity in group.measurements.items():
            used_quantities.add(quantity)
            if quantity not in template.quantities:
                yield f"{where}.measurements.{number}", f"no quantity {quantity!r} is defined"
        for number, scale in group.evaluations.items():
            used_scales.add(scale)
            if scale not in template.scales:
                yield f"{where}.evaluations.{number}", f"no scale {scale!r} is defined"
        largest = isinstance(group, ImageGroup) and group.largest_of
        if not (group.measurements or group.evaluations or largest):
            yield where, "a group needs a measurement or an evaluation"
        if isinstance(group, ImageGroup):
            if group.group in names:
                yield f"{where}.group", f"{group.group!r} is already a group"
            names.add(group.group)
            yield from _site_problems(group, where)
    for key, defined, used in (
        ("quantities", template.quantities, used_quantities),
        ("scales", template.scales, used_scales),
    ):
        for name in defined:
            if name not in used:
                yield f"{key}.{name}", "used by no group"


def _site_problems(group: ImageGroup, where: str) -> Iterator[Problem]:
    if group.laterality is not None and group.laterality_of_image:
        yield f"{where}.laterality_of_image", "the site has a laterality already"
    largest = group.largest_of
    if largest is None:
        return
    if (largest.negative_from is None) != (largest.otherwise is None):
        yield f"{where}.largest_of", "negative_from and otherwise belong together"
    if largest.otherwise is not None and largest.otherwise.negative:
        yield f"{where}.largest_of.otherwise.negative", "it stands where nothing is excluded"


def _placeholder_problems(template: ReportTemplate) -> Iterator[Problem]:
    for name, quantity in template.quantities.items():
        yield from placeholder_contradictions(quantity.text, f"quantities.{name}.text", _VALUE)
    for where, wording in _plain_words(template):
        yield from placeholder_contradictions(wording, where, _NOTHING)


def _plain_words(template: ReportTemplate) -> Iterator[tuple[str, Wording]]:
    for label, wording in template.names.items():
        yield f"names.{label}", wording
    for name, scale in template.scales.items():
        for position, step in enumerate(scale.steps):
            yield f"scales.{name}.steps[{position}].text", step.text
    for position, group in enumerate(template.image):
        yield f"image[{position}].name", group.name
        for output, term in (group.largest_of.terms if group.largest_of else {}).items():
            yield f"image[{position}].largest_of.terms.{output}.text", term.text
        if group.largest_of and group.largest_of.otherwise:
            yield f"image[{position}].largest_of.otherwise.text", group.largest_of.otherwise.text
    if template.volumetric is not None and template.volumetric.total is not None:
        yield "volumetric.total.name", template.volumetric.total.name


def _scheme_problems(template: ReportTemplate) -> Iterator[Problem]:
    described = {*template.coding_schemes, *PRIVATE_SCHEMES}
    for scheme in template.coding_schemes:
        if not re.fullmatch(r"99[A-Z0-9_]{1,14}", scheme):
            yield f"coding_schemes.{scheme}", "a private scheme starts with 99 (PS3.16 section 8)"
    for where, code in codes_in(template):
        if code.scheme.startswith("99") and code.scheme not in described:
            yield where, f"the private scheme {code.scheme} is not described in coding_schemes"


def codes_in(entry: object, key_path: str = "") -> Iterator[tuple[str, Code]]:
    """(key path, code) of every code in an entry, at any depth."""
    if isinstance(entry, Code):
        yield key_path, entry
    elif isinstance(entry, BaseModel):
        for field in type(entry).model_fields:
            path = f"{key_path}.{field}" if key_path else field
            yield from codes_in(getattr(entry, field), path)
    elif isinstance(entry, dict):
        for key, value in entry.items():
            yield from codes_in(value, f"{key_path}.{key}")
    elif isinstance(entry, tuple):
        for position, value in enumerate(entry):
            yield from codes_in(value, f"{key_path}[{position}]")
