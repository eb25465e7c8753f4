"""What is written under and over a picture, in the language of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ai_models.types import Label
from dicom_node.results.drawing import (
    GREY,
    RED,
    WHITE,
    LegendItem,
    contour_colors,
    drawable,
    heat_scale,
)
from dicom_node.results.equipment import DEMONSTRATION
from dicom_node.results.request import ResultRequest

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_FEW_LABELS = 12
_WORDS: dict[str, dict[str, str]] = {
    "en": {
        "not verified": "AI result, not verified",
        "elsewhere": "not on this image",
        "image": "Series {series}, image {image}",
        "frame": "Series {series}, image {image}, frame {frame}",
        "scale": "{name}: weight in the result, low to high",
        "answer": "Answer of {algorithm}",
        "patient": "Patient ID",
        "born": "born",
        "study": "Study",
        "page": "Page {page}",
        "all selected": "All images on which {algorithm} found: {each}.",
        "some selected": "{chosen} of {carrying} images on which {algorithm} found: {each}.",
        "answer selected": "Images ({chosen}) on which the answer of {algorithm} rests: {each}.",
    },
    "de": {
        "not verified": "KI-Ergebnis, nicht geprüft",
        "elsewhere": "nicht auf diesem Bild",
        "image": "Serie {series}, Bild {image}",
        "frame": "Serie {series}, Bild {image}, Einzelbild {frame}",
        "scale": "{name}: Gewicht im Ergebnis, gering bis hoch",
        "answer": "Antwort von {algorithm}",
        "patient": "Patienten-ID",
        "born": "geboren",
        "study": "Untersuchung",
        "page": "Seite {page}",
        "all selected": "Alle Bilder, auf denen {algorithm} fand: {each}.",
        "some selected": "{chosen} von {carrying} Bildern, auf denen {algorithm} fand: {each}.",
        "answer selected": "Bilder ({chosen}) hinter der Antwort von {algorithm}: {each}.",
    },
    "fr": {
        "not verified": "Résultat d'IA, non vérifié",
        "elsewhere": "pas sur cette image",
        "image": "Série {series}, image {image}",
        "frame": "Série {series}, image {image}, trame {frame}",
        "scale": "{name} : poids dans le résultat, de faible à fort",
        "answer": "Réponse de {algorithm}",
        "patient": "Identifiant",
        "born": "né(e) le",
        "study": "Examen",
        "page": "Page {page}",
        "all selected": "Toutes les images sur lesquelles {algorithm} a trouvé : {each}.",
        "some selected": (
            "{chosen} des {carrying} images sur lesquelles {algorithm} a trouvé : {each}."
        ),
        "answer selected": (
            "Images ({chosen}) sur lesquelles repose la réponse de {algorithm} : {each}."
        ),
    },
    "zh": {
        "not verified": "AI结果，未经核实",
        "elsewhere": "不在此图像上",
        "image": "序列 {series}，图像 {image}",
        "frame": "序列 {series}，图像 {image}，帧 {frame}",
        "scale": "{name}：对结果的影响，由低到高",
        "answer": "{algorithm} 的答复",
        "patient": "患者编号",
        "born": "出生日期",
        "study": "检查",
        "page": "第 {page} 页",
        "all selected": "{algorithm} 检出以下内容的全部图像：{each}。",
        "some selected": "{algorithm} 检出以下内容的 {carrying} 幅图像中的 {chosen} 幅：{each}。",
        "answer selected": "{algorithm} 的答复所依据的图像（{chosen} 幅）：{each}。",
    },
}


def worded(language: str, key: str, **values: object) -> str:
    """A phrase in a language, in English where it is none of ours."""
    return _WORDS.get(language, _WORDS["en"])[key].format(**values)


def phrase(request: ResultRequest, key: str, **values: object) -> str:
    """A phrase in the request's language, in English where no font here can draw that."""
    return drawable(worded(request.language, key, **values), worded("en", key, **values))


def provenance(request: ResultRequest) -> list[list[LegendItem]]:
    """Who computed it, that nobody verified it and, where due, that it is a demonstration."""
    algorithm = request.algorithm
    rows = [
        [
            LegendItem(phrase(request, "not verified"), bold=True),
            LegendItem(drawable(f"{algorithm.name} {algorithm.version}"), GREY),
        ]
    ]
    if algorithm.demonstration:
        rows.append([LegendItem(DEMONSTRATION, RED, bold=True)])
    return rows


def contour_legend(
    request: ResultRequest,
    present: set[int],
    found: set[int],
    quantities: Mapping[int, str],
) -> list[LegendItem]:
    """The labels with their colours: those ``present`` on this image, and others that were
    ``found`` in the series as long as there are few."""
    colors = contour_colors(request.labels)
    items = []
    for label in request.labels:
        name = " ".join((_name(label), quantities.get(label.value, ""))).rstrip()
        if label.value in present:
            items.append(LegendItem(name, WHITE, (colors[label.value],)))
        elif label.value in found and len(found) <= _FEW_LABELS:
            absent = f"{name} ({phrase(request, 'elsewhere')})"
            items.append(LegendItem(absent, GREY, (colors[label.value],)))
    return items


def heat_legend(request: ResultRequest, name: str) -> list[LegendItem]:
    """What the colours of a saliency overlay mean."""
    return [LegendItem(phrase(request, "scale", name=name), swatches=heat_scale())]


def place(request: ResultRequest, image: Dataset, frame: int | None) -> list[LegendItem]:
    """Which image this is a picture of, by the numbers that a viewer shows."""
    values = {
        "series": image.get("SeriesNumber") or "-",
        "image": image.get("InstanceNumber") or "-",
    }
    key = "image" if frame is None else "frame"
    return [LegendItem(phrase(request, key, frame=frame, **values), GREY)]


def notice(
    request: ResultRequest, lines: Sequence[str], english: Sequence[str]
) -> list[LegendItem]:
    """``lines`` where they can be drawn here, else ``english``, and who says so."""
    readable = all(drawable(line) == line for line in lines)
    items = [LegendItem(line) for line in (lines if readable else [drawable(e) for e in english])]
    return [*items, *(item for row in provenance(request) for item in row)]


def _name(label: Label) -> str:
    return drawable(label.name, label.type.meaning)
