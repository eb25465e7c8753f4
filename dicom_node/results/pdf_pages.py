"""Reports and pictures as PDF pages, the same bytes for the same content.

Latin text is set in Bitstream Vera, embedded. Chinese, Japanese and Korean use the fonts that
PDF readers bring for them (Adobe's character collections): nothing has to be installed here.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from xml.sax.saxutils import escape

from dicom_node.results.drawing import Pixels, vera_path
from dicom_node.results.report_text import ReportText

_REGULAR, _BOLD = "Vera", "VeraBd"
_CHINESE, _KOREAN = "STSong-Light", "HYSMyeongJo-Medium"
_RED, _GREY, _RULE = "#b00020", "#5f6368", "#c8ccd0"
_MARGIN_MM = 18
# Points that reportlab keeps free inside the margins.
_PADDING = 6
# Height of a picture by the width of its column: four fit on a page.
_TALLEST = 1.3


@dataclass(frozen=True)
class PageFrame:
    """What stands on every page: lines at the top, a mark in red and a remark at the bottom.

    ``page`` holds ``{page}``.
    """

    header: tuple[str, ...]
    mark: str
    remark: str
    page: str


def pdf_of(
    title: str, frame: PageFrame, reports: Sequence[ReportText], pictures: Sequence[Pixels]
) -> bytes:
    """A document of A4 pages: title, reports, then pictures ``(rows, columns, 3)``, two a row."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.units import mm
    from reportlab.platypus import SimpleDocTemplate

    _register_fonts()
    buffer = io.BytesIO()
    margin = _MARGIN_MM * mm
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=margin,
        rightMargin=margin,
        topMargin=margin + 11 * mm,
        bottomMargin=margin + 4 * mm,
        title="",
        author="",
        invariant=1,
    )
    story = [_paragraph(title, size=15, bold=True, after=3 * mm)]
    if frame.mark:
        story.append(_paragraph(frame.mark, bold=True, color=_RED))
    story.append(_paragraph(frame.remark, bold=True, after=4 * mm))
    inner = document.width - 2 * _PADDING
    for report in reports:
        story += _report(report, inner)
    story += _pictures(pictures, inner)
    draw = functools.partial(_draw_frame, frame)
    document.build(story, onFirstPage=draw, onLaterPages=draw)
    return buffer.getvalue()


def _report(report: ReportText, width: float) -> list[Any]:
    from reportlab.lib.units import mm

    story = [_paragraph(report.title, size=12, bold=True, after=1.5 * mm)]
    for finding in report.findings:
        if finding.title:
            story.append(_paragraph(finding.title, bold=True))
        if finding.rows:
            story.append(_table(finding.rows, width))
    story += [_paragraph(sentence) for sentence in report.sentences]
    return [*story, _paragraph("", after=3 * mm)]


def _table(rows: Sequence[tuple[str, str]], width: float) -> Any:
    from reportlab.lib.units import mm
    from reportlab.platypus import Table, TableStyle

    cells = [[_paragraph(name, color=_GREY, after=0), _paragraph(value, after=0)]
             for name, value in rows]  # fmt: skip
    table = Table(cells, colWidths=[0.5 * width, 0.5 * width], spaceAfter=2.5 * mm)
    table.setStyle(
        TableStyle(
            [
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, _RULE),
                ("LEFTPADDING", (0, 0), (0, -1), 0),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ]
        )
    )
    return table


def _pictures(pictures: Sequence[Pixels], width: float) -> list[Any]:
    from reportlab.lib.units import mm
    from reportlab.platypus import Table

    if not pictures:
        return []
    across = (width - 3 * mm) / 2
    flowables = [_image(pixels, across) for pixels in pictures]
    rows = [flowables[start : start + 2] for start in range(0, len(flowables), 2)]
    rows[-1] += [""] * (2 - len(rows[-1]))
    table = Table(rows, colWidths=[across + 3 * mm, across], hAlign="LEFT")
    table.setStyle([("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 0)])
    return [table]


def _image(pixels: Pixels, across: float) -> Any:
    from PIL import Image
    from reportlab.platypus import Image as Flowable

    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PPM")
    encoded.seek(0)
    shrunk = min(1.0, _TALLEST * pixels.shape[1] / pixels.shape[0])
    width = across * shrunk
    return Flowable(encoded, width, width * pixels.shape[0] / pixels.shape[1])


def _draw_frame(frame: PageFrame, canvas: Any, document: Any) -> None:
    from reportlab.lib.units import mm

    width, height = document.pagesize
    left = _MARGIN_MM * mm + _PADDING
    right = width - left
    top = height - _MARGIN_MM * mm + 7 * mm
    for line in frame.header:
        paragraph = _paragraph(line, size=8.5, color=_GREY, after=0)
        _, taken = paragraph.wrap(right - left, 40 * mm)
        top -= taken
        paragraph.drawOn(canvas, left, top)
    canvas.setStrokeColor(_RULE)
    canvas.line(left, top - 1.5 * mm, right, top - 1.5 * mm)
    page = _paragraph(frame.page.format(page=document.page), size=8, color=_GREY, to_right=True)
    mark = _paragraph("  ·  ".join(one for one in (frame.mark, frame.remark) if one), 8, color=_RED)
    for paragraph in (mark, page):
        paragraph.wrap(right - left, 20 * mm)
        paragraph.drawOn(canvas, left, _MARGIN_MM * mm - 6 * mm)


def _paragraph(
    text: str,
    size: float = 9.5,
    bold: bool = False,
    color: str = "#000000",
    after: float = 3,
    to_right: bool = False,
) -> Any:
    from reportlab.lib.enums import TA_LEFT, TA_RIGHT
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph

    runs = [(_font(font, bold), "".join(run)) for font, run in groupby(text, _font_of)]
    marked = "".join(f'<font name="{font}">{escape(run)}</font>' for font, run in runs)
    is_latin = all(font in (_REGULAR, _BOLD) for font, _ in runs)
    style = ParagraphStyle(
        "text",
        fontName=_font(_REGULAR, bold),
        fontSize=size,
        leading=size * 1.35,
        textColor=color,
        spaceAfter=after,
        wordWrap=None if is_latin else "CJK",
        alignment=TA_RIGHT if to_right else TA_LEFT,
    )
    return Paragraph(marked, style)


def _font(font: str, bold: bool) -> str:
    return _BOLD if bold and font == _REGULAR else font


@functools.cache
def _font_of(character: str) -> str:
    """Which font has a character: Hangul is in the Korean collection, the rest in the Chinese."""
    from reportlab.pdfbase import pdfmetrics

    if ord(character) in pdfmetrics.getFont(_REGULAR).face.charToGlyph:
        return _REGULAR
    return _KOREAN if "\uac00" <= character <= "\ud7a3" else _CHINESE


@functools.cache
def _register_fonts() -> None:
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.pdfbase.ttfonts import TTFont

    pdfmetrics.registerFont(TTFont(_REGULAR, str(vera_path(bold=False))))
    pdfmetrics.registerFont(TTFont(_BOLD, str(vera_path(bold=True))))
    for name in (_CHINESE, _KOREAN):
        pdfmetrics.registerFont(UnicodeCIDFont(name))
