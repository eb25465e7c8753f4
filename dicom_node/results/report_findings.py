"""Numbers and places of a result as the measurement groups that its template asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_models.types import Label, LabelMap
from dicom_node.errors import ConfigurationError, GateRefused
from dicom_node.results.anatomy import side_of
from dicom_node.results.contours import Section, largest_section
from dicom_node.results.equipment import long_string
from dicom_node.results.key_slices import key_slices
from dicom_node.results.report_numbers import (
    SECTION_NUMBERS,
    SegmentMeasurement,
    numbers_of,
    pixel_spacing_mm,
    pooled,
    section_numbers,
    thinned,
)
from dicom_node.results.request import Reference, ResultRequest
from dicom_node.results.segmentation import tracking_identifier, tracking_uid
from sr_templates.entries import Language
from sr_templates.measurement_groups import Finding, PlanarRegion, SegmentReference, WholeImage
from sr_templates.numbers import (
    Evaluated,
    Measured,
    NumberRefused,
    evaluated,
    measured,
    undetermined,
    undetermined_step,
)
from sr_templates.report_template import (
    Group,
    ImageGroup,
    ReportTemplate,
    Total,
    VolumetricGroups,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Finder:
    """The groups of one report. ``sources`` are the repaired headers, in slice order."""

    request: ResultRequest
    template: ReportTemplate
    language: Language
    sources: Sequence[Dataset]

    def volumetric(
        self,
        segmentation: Dataset,
        label_map: LabelMap,
        segment_numbers: Mapping[int, int],
        measurements: Mapping[int, SegmentMeasurement],
    ) -> list[Finding]:
        """One group per segment, and the total where the template has one."""
        groups = volumetric_groups(self.template)
        found = [label for label in self.request.labels if label.value in segment_numbers]
        findings = []
        for label in found:
            numbers = numbers_of(measurements[label.value], _names(groups))
            numbers = self._with_section(numbers, _names(groups), label_map, label)
            numbers = {**self._followed(label, _names(groups)), **numbers}
            where = self._segments(segmentation, (segment_numbers[label.value],))
            findings.append(self._of_label(label, groups, numbers, where))
        if groups.total is not None and len(found) > 1:
            numbers = pooled([measurements[label.value] for label in found])
            where = self._segments(segmentation, tuple(segment_numbers.values()))
            findings.append(self._total(groups, groups.total, found[0], numbers, where))
        return findings

    def planar(self, label_map: LabelMap, found: Sequence[Label]) -> list[Finding]:
        """The largest section of every label of ``found``, all of which occur."""
        group = self.template.planar
        return [] if group is None else [self._planar(group, label_map, label) for label in found]

    def image(self, explanation: Reference | Mapping[str, Reference] | None) -> list[Finding]:
        """The groups on the whole image that the model gave numbers for.

        ``explanation`` is of all of them, or of each output.
        """
        outputs = {*self.request.outputs, *self.request.undetermined}
        groups = self.template.image
        unknown = outputs - {name for group in groups for name in _names(group)}
        if unknown:
            raise GateRefused(
                f"template {self.template.name} does not report {', '.join(sorted(unknown))}",
                reason="gate.unknown_number",
            )
        findings = [self._image(group, _explanation_of(group, explanation)) for group in groups]
        given = [one for one in findings if one.measured or one.evaluated]
        if not given:
            raise GateRefused(
                f"nothing that template {self.template.name} reports was given",
                reason="gate.missing_number",
            )
        return given

    def _of_label(
        self,
        label: Label,
        group: Group,
        numbers: Mapping[str, float],
        where: SegmentReference | PlanarRegion,
    ) -> Finding:
        measurements, evaluations = self._numbers(group, numbers)
        series_uid = str(self.sources[0].SeriesInstanceUID)
        return Finding(
            name=self.template.name_of(label.name, self.language),
            category=label.category,
            type=label.type,
            site=label.anatomic_region or label.type,
            laterality=label.laterality,
            tracking_identifier=tracking_identifier(label, self.request.algorithm),
            tracking_uid=tracking_uid(self.request.identity, series_uid, label),
            measured=measurements,
            evaluated=evaluations,
            where=where,
        )

    def _total(
        self,
        groups: Group,
        total: Total,
        first: Label,
        numbers: Mapping[str, float],
        where: SegmentReference,
    ) -> Finding:
        known = {name: key for name, key in groups.measurements.items() if name in numbers}
        measurements, _ = self._numbers(Group(measurements=known), numbers)
        name, model = total.name.en, self.request.algorithm.model_id
        series_uid = str(self.sources[0].SeriesInstanceUID)
        return Finding(
            name=total.name.in_language(self.language),
            category=first.category,
            type=total.type,
            site=total.type,
            laterality=total.laterality,
            tracking_identifier=long_string(f"{model} {name}"),
            tracking_uid=self.request.identity.tracking_uid(series_uid, f"total:{name}"),
            measured=measurements,
            evaluated=(),
            where=where,
        )

    def _planar(self, group: Group, label_map: LabelMap, label: Label) -> Finding:
        section = self._section(label_map, label)
        image = self.sources[section.slice_index] if len(self.sources) > 1 else self.sources[0]
        multi_frame = int(image.get("NumberOfFrames") or 1) > 1
        where = PlanarRegion(
            points=thinned(section.points),
            sop_class_uid=str(image.SOPClassUID),
            sop_instance_uid=str(image.SOPInstanceUID),
            frame_number=(
                int(self.request.frame_numbers[section.slice_index]) if multi_frame else None
            ),
        )
        numbers = section_numbers(section, pixel_spacing_mm(self.sources[0]))
        return self._of_label(label, group, numbers, where)

    def _image(self, group: ImageGroup, explanation: Reference | None) -> Finding:
        outputs = self.request.outputs
        without = {
            name: roles for name, roles in self.request.undetermined.items()
            if name in _names(group)
        }
        asked = {name for name in _names(group) if name in outputs}
        measurements: tuple[Measured, ...] = ()
        evaluations: tuple[Evaluated, ...] = ()
        if without:
            measurements, evaluations = self._undetermined(group, without)
        elif asked or not self._is_optional(group):
            measurements, evaluations = self._numbers(group, outputs)
        key = key_slices(group, evaluations, self.request.by_slice, self.request.absence)
        # Of frames those are named that the answer rests on.
        only = self.sources[0] if len(self.sources) == 1 and key is None else None
        series_uid = str(self.sources[0].SeriesInstanceUID)
        model = self.request.algorithm.model_id
        return Finding(
            name=group.name.in_language(self.language),
            category=group.category,
            type=group.finding,
            site=group.site,
            laterality=(
                side_of(self.sources[0]) if group.laterality_of_image else group.laterality
            ),
            tracking_identifier=long_string(f"{model} {group.name.en}"),
            tracking_uid=self.request.identity.tracking_uid(series_uid, f"image:{group.group}"),
            measured=measurements,
            evaluated=evaluations,
            where=WholeImage(
                source=None if only is None else (str(only.SOPClassUID), str(only.SOPInstanceUID)),
                explanation=(
                    None
                    if explanation is None
                    else (explanation.sop_class_uid, explanation.sop_instance_uid)
                ),
                key_images=() if key is None else self._images(key.shown),
            ),
            without=tuple(dict.fromkeys(role for roles in without.values() for role in roles)),
            highest_in=None if key is None else self._number_of(key.decisive),
            agreeing=None if key is None else (key.agreeing, key.slices),
            differing=0 if key is None else key.differing,
        )

    def _images(self, indices: Sequence[int]) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """References to slices; those of one multi-frame image are its frames."""
        if len(self.sources) > 1:
            chosen = [self.sources[index] for index in indices]
            return tuple((str(one.SOPClassUID), str(one.SOPInstanceUID), ()) for one in chosen)
        only = self.sources[0]
        frames = tuple(sorted(int(self.request.frame_numbers[index]) for index in indices))
        return ((str(only.SOPClassUID), str(only.SOPInstanceUID), frames),)

    def _number_of(self, index: int) -> int | None:
        """By which number viewers show a slice."""
        if len(self.sources) == 1:
            return int(self.request.frame_numbers[index])
        number = self.sources[index].get("InstanceNumber")
        return None if number is None else int(number)

    def _undetermined(
        self, group: ImageGroup, without: Mapping[str, Sequence[str]]
    ) -> tuple[tuple[Measured, ...], tuple[Evaluated, ...]]:
        """Of a group, what is told, and the term of what is not."""
        told = ImageGroup.model_copy(group, update={
            "measurements": {
                name: key for name, key in group.measurements.items() if name not in without
            },
        })
        measurements, evaluations = self._numbers(told, self.request.outputs)
        try:
            return measurements, (*evaluations, *undetermined(self.template, group, without))
        except NumberRefused as refused:
            raise GateRefused(str(refused), reason=f"gate.{refused.kind}") from refused

    def _is_optional(self, group: ImageGroup) -> bool:
        return group.largest_of is None and all(
            self.template.quantities[key].optional for key in group.measurements.values()
        )

    def _numbers(
        self, group: Group, numbers: Mapping[str, float]
    ) -> tuple[tuple[Measured, ...], tuple[Evaluated, ...]]:
        try:
            return (
                measured(self.template, group, numbers),
                evaluated(self.template, group, numbers),
            )
        except NumberRefused as refused:
            raise GateRefused(str(refused), reason=f"gate.{refused.kind}") from refused

    def _with_section(
        self, numbers: dict[str, float], names: set[str], label_map: LabelMap, label: Label
    ) -> dict[str, float]:
        """``numbers`` with those of the largest section, where the template names one of them."""
        if not (names & SECTION_NUMBERS) - numbers.keys():
            return numbers
        section = self._section(label_map, label)
        return {**section_numbers(section, pixel_spacing_mm(self.sources[0])), **numbers}

    def _followed(self, label: Label, names: set[str]) -> dict[str, float]:
        """Numbers that come from an earlier examination, of those that the template names."""
        known = self.request.follow_up
        numbers = known.numbers(label.value) if known is not None else {}
        return {name: number for name, number in numbers.items() if name in names}

    def _section(self, label_map: LabelMap, label: Label) -> Section:
        return largest_section(label_map, label.value, pixel_spacing_mm(self.sources[0]))

    def _segments(self, segmentation: Dataset, numbers: tuple[int, ...]) -> SegmentReference:
        return SegmentReference(
            sop_class_uid=str(segmentation.SOPClassUID),
            sop_instance_uid=str(segmentation.SOPInstanceUID),
            segment_numbers=numbers,
            source_series_instance_uid=str(self.sources[0].SeriesInstanceUID),
        )


def _explanation_of(
    group: ImageGroup, explanation: Reference | Mapping[str, Reference] | None
) -> Reference | None:
    """What shows where the model looked for a group: that of its first output that has one."""
    if explanation is None or isinstance(explanation, Reference):
        return explanation
    names = (*group.measurements, *group.evaluations, *sorted(_names(group)))
    return next((explanation[name] for name in names if name in explanation), None)


def volumetric_groups(template: ReportTemplate) -> VolumetricGroups:
    """What a template reports on segments.

    Raises
    ------
    ConfigurationError
        It reports nothing on them.
    """
    if template.volumetric is None:
        raise ConfigurationError(
            f"template {template.name} has no groups on segments (volumetric), and the model "
            "answers with segments", key_path="report",
        )
    return template.volumetric


def image_groups(template: ReportTemplate) -> tuple[ImageGroup, ...]:
    """What a template reports on whole images.

    Raises
    ------
    ConfigurationError
        It reports nothing on them.
    """
    if not template.image:
        raise ConfigurationError(
            f"template {template.name} has no groups on whole images (image), and the model "
            "answers with numbers of the whole", key_path="report",
        )
    return template.image


def check_outputs(
    template: ReportTemplate, outputs: Collection[str], conditional: Collection[str] = ()
) -> None:
    """Refuse a template that does not report all ``outputs``, or that needs what is not in them.

    Of those that are ``conditional`` it must be able to say that they are undetermined.

    Without ``outputs`` only that there are groups on whole images is checked.

    Raises
    ------
    ConfigurationError
    """
    groups = image_groups(template)
    if not outputs:
        return
    unknown = set(outputs) - {name for group in groups for name in _names(group)}
    if unknown:
        raise ConfigurationError(
            f"template {template.name} does not report {', '.join(sorted(unknown))}",
            key_path="report",
        )
    for group in groups:
        needed = {
            name for name, key in group.measurements.items()
            if not template.quantities[key].optional
        }
        needed |= set(group.largest_of.terms) if group.largest_of else set()
        if needed - set(outputs):
            raise ConfigurationError(
                f"template {template.name} asks for {', '.join(sorted(needed - set(outputs)))}, "
                "which the model does not give", key_path="report",
            )
    for name in conditional:
        if not any(_says_undetermined(template, group, name) for group in groups):
            raise ConfigurationError(
                f"template {template.name} has no term Undetermined for {name}, which is not "
                "answered without another series", key_path="report",
            )


def _says_undetermined(template: ReportTemplate, group: ImageGroup, name: str) -> bool:
    scale = template.scales.get(group.evaluations.get(name, ""))
    compared = group.largest_of.terms if group.largest_of is not None else {}
    return undetermined_step(scale) is not None and name not in compared


def _names(group: Group) -> set[str]:
    """The names of all numbers that a group asks for."""
    names = {*group.measurements, *group.evaluations}
    if isinstance(group, ImageGroup) and group.largest_of is not None:
        names |= set(group.largest_of.terms)
    return names
