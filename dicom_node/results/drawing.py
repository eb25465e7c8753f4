"""Contours, heat and words as RGB pixels, ``(rows, columns, 3)`` uint8.

Nothing here knows DICOM. Text is set in Bitstream Vera, which reportlab carries with it, so that
a picture has the same pixels on every host; only text outside Latin needs a font of the host.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import mask_of
from ai_models.types import FloatArray, Label, LabelMap
from dicom_node.results.contours import border

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Pixels = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

WHITE, GREY, RED = (235, 235, 235), (150, 150, 150), (255, 96, 96)
_STRIP = (22, 24, 28)
_RULE = (70, 74, 80)
# For labels whose own colour would be lost on a grey image, or is taken already.
_SPARE_COLORS: tuple[Color, ...] = (
    (255, 214, 10), (10, 214, 255), (255, 99, 178), (124, 252, 0), (255, 140, 0),
    (178, 120, 255), (0, 255, 170), (255, 70, 70), (90, 150, 255), (200, 255, 120),
)  # fmt: skip
_GREY_SPREAD, _DARK = 60, 110
_HEAT = ((0.0, (60, 0, 110)), (0.35, (200, 30, 90)), (0.65, (250, 120, 20)), (1.0, (255, 240, 90)))
_HEAT_FLOOR, _HEAT_OPACITY = 0.05, 0.65
_NARROWEST = 384
_OPPOSITE = dict(zip("RLAPFH", "LRPAHF", strict=True))
_ARROWS = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
_PAGE_WIDTH, _PAGE_HEIGHT, _PAGE_MARGIN = 800, 600, 48
_FONT_FOLDER = Path("/usr/share/fonts")
_CJK_FONTS = ("*CJK*", "*SourceHan*", "*wqy*", "*uming*", "*ukai*", "*DroidSansFallback*")


@dataclass(frozen=True)
class LegendItem:
    """A few words of a legend, after blocks of the colours that they explain."""

    text: str
    color: Color = WHITE
    swatches: tuple[Color, ...] = ()
    bold: bool = False


@dataclass(frozen=True)
class Sides:
    """Letters of the patient's directions at the edges of a picture (PS3.3 C.7.6.1.1.1)."""

    left: str
    right: str
    top: str
    bottom: str

    @classmethod
    def along(cls, patient_orientation: Sequence[str]) -> Sides:
        """From where rows and columns lead; empty letters where that is not known."""
        right, bottom = patient_orientation or ("", "")
        left, top = ("".join(_OPPOSITE.get(c, c) for c in letters) for letters in (right, bottom))
        return cls(left, right, top, bottom)


def contour_colors(labels: Sequence[Label]) -> dict[int, Color]:
    """Label value to the colour of its contour: the label's own, unless that is near to grey, dark
    or taken."""
    shades = range(60, 255)
    further = [*((255, 255 - n, n) for n in shades), *((n, 255, 255 - n) for n in shades)]
    spare = [*_SPARE_COLORS, *further]
    colors: dict[int, Color] = {}
    for label in labels:
        own = label.color_rgb
        faint = max(own) - min(own) < _GREY_SPREAD or max(own) < _DARK
        unfit = faint or own in colors.values()
        colors[label.value] = (
            next(one for one in spare if one not in colors.values()) if unfit else own
        )
    return colors


def line_width(rows: int, columns: int) -> int:
    """Pixels of a contour: one, and more on a matrix that is always shown reduced."""
    return 1 + max(rows, columns) // 1280


def draw_contours(grey: Pixels, section: LabelMap, colors: dict[int, Color]) -> Pixels:
    """``grey`` ``(rows, columns)`` with the rim of every label of ``section`` in its colour.

    The rim lies inside the mask, `line_width` pixels wide; nothing else is changed. Where rims of
    labels that share pixels meet, the one that comes later in ``colors`` is seen.
    """
    picture = np.repeat(grey[..., None], 3, axis=2)
    width = line_width(*grey.shape)
    for value, color in colors.items():
        mask = mask_of(section, value)
        if mask.any():
            picture[border(mask, width)] = color
    return picture


def draw_heat(grey: Pixels, saliency: FloatArray) -> Pixels:
    """``grey`` ``(rows, columns)`` under ``saliency`` (0..1), the warmer the more it weighs."""
    share = np.clip(np.nan_to_num(saliency), 0.0, 1.0).astype(np.float32)
    opacity = np.where(share > _HEAT_FLOOR, _HEAT_OPACITY * np.sqrt(share), 0.0)[..., None]
    heated = (1.0 - opacity) * grey[..., None] + opacity * heat_color(share)
    return np.asarray(np.rint(heated), np.uint8)


def heat_color(share: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Colour of saliency values 0..1: ``share.shape + (3,)``, 0..255."""
    places = [place for place, _ in _HEAT]
    channels = np.array([color for _, color in _HEAT], float).T
    return np.stack([np.interp(share, places, channel) for channel in channels], axis=-1)


def heat_scale() -> tuple[Color, ...]:
    """The colours of `draw_heat` from least to most, for a legend."""
    steps = np.rint(heat_color(np.linspace(0, 1, 24, dtype=np.float32))).astype(int)
    return tuple((int(red), int(green), int(blue)) for red, green, blue in steps)


def with_legend(picture: Pixels, rows: Sequence[Sequence[LegendItem]], sides: Sides) -> Pixels:
    """``picture`` with a strip below it that says which side is which, and ``rows`` of items.

    The picture keeps its pixels and its place at the top left. A strip that needs more room than
    the picture is wide adds black columns on the right.
    """
    from PIL import Image, ImageDraw

    height, columns = picture.shape[:2]
    width = max(columns, _NARROWEST)
    size = max(14, width // 36)
    scratch = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    strip_height = _draw_strip(scratch, rows, sides, size, (columns, width), 0, dry=True)
    sheet = Image.new("RGB", (width, height + strip_height))
    sheet.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((0, height, width, height + strip_height), fill=_STRIP)
    draw.line((0, height, width, height), fill=_RULE)
    _draw_strip(draw, rows, sides, size, (columns, width), height, dry=False)
    return np.asarray(sheet)


def _draw_strip(
    draw: Any,
    rows: Sequence[Sequence[LegendItem]],
    sides: Sides,
    size: int,
    widths: tuple[int, int],
    top: int,
    *,
    dry: bool,
) -> int:
    """Draw the strip from ``top`` on, or only measure it; returns its height."""
    columns, width = widths
    margin, leading = size * 2 // 3, size * 3 // 2
    middle = top + margin // 2 + leading // 2
    if not dry:
        _draw_sides(draw, sides, size, columns, middle)
    place = top + margin // 2 + leading
    for items in rows:
        x = margin
        for item in items:
            length = _item_length(item, size)
            if x > margin and x + length > width - margin:
                x, place = margin, place + leading
            room = width - margin - x - _swatch_length(item, size)
            for number, line in enumerate(_wrapped(item.text, size, room)):
                if not dry:
                    middle = place + leading // 2
                    _draw_item(draw, item, line, size, x, middle, has_swatches=number == 0)
                place += leading
            place -= leading
            x += length + size
        place += leading
    return place + margin // 2 - top


def _draw_sides(draw: Any, sides: Sides, size: int, columns: int, middle: int) -> None:
    """Left and right under the edges of the picture, top and bottom between them; all in one row
    where the picture is too narrow for that."""
    margin, font = size // 3, _vera(size, bold=True)
    if columns < 12 * size:
        x = size * 2 // 3
        for direction in ("left", "right", "top", "bottom"):
            x = _draw_side(draw, direction, getattr(sides, direction), size, x, middle)
        return
    draw.text((margin, middle), sides.left, fill=WHITE, font=font, anchor="lm")
    draw.text((columns - margin, middle), sides.right, fill=WHITE, font=font, anchor="rm")
    x = _draw_side(draw, "top", sides.top, size, columns // 2 - 3 * size, middle)
    _draw_side(draw, "bottom", sides.bottom, size, x, middle)


def _draw_side(draw: Any, direction: str, letters: str, size: int, x: int, middle: int) -> int:
    """An arrow and the letters of one side; returns where the next one may stand."""
    if not letters:
        return x
    half = size // 3
    across, down = _ARROWS[direction]
    centre = x + half
    tip = (centre + half * across, middle + half * down)
    back = (centre - half * across, middle - half * down)
    ends = [(back[0] + turn * half * down, back[1] + turn * half * across) for turn in (-1, 1)]
    draw.polygon([tip, *ends], fill=GREY)
    font = _vera(size, bold=True)
    draw.text((x + 3 * half, middle), letters, fill=WHITE, font=font, anchor="lm")
    return x + 3 * half + int(font.getlength(letters)) + size * 3 // 2


def _draw_item(
    draw: Any, item: LegendItem, line: str, size: int, x: int, middle: int, *, has_swatches: bool
) -> None:
    """One line of an item; further lines stand under the first without a colour, as it is one."""
    block = _block(item, size)
    for number, color in enumerate(item.swatches if has_swatches else ()):
        left = x + number * block
        draw.rectangle((left, middle - size // 3, left + block - 1, middle + size // 3), fill=color)
    x += _swatch_length(item, size)
    draw.text((x, middle), line, fill=item.color, font=_font(line, size, item.bold), anchor="lm")


def _block(item: LegendItem, size: int) -> int:
    return size if len(item.swatches) == 1 else max(2, size // 4)


def _swatch_length(item: LegendItem, size: int) -> int:
    return len(item.swatches) * _block(item, size) + size // 2 if item.swatches else 0


def _item_length(item: LegendItem, size: int) -> int:
    return _swatch_length(item, size) + int(_length(item.text, size, item.bold)) + 1


def text_page(title: str, items: Sequence[LegendItem]) -> Pixels:
    """A page of text: ``title``, then ``items`` one below the other, wrapped."""
    from PIL import Image, ImageDraw

    size, title_size, inner = 18, 26, _PAGE_WIDTH - 2 * _PAGE_MARGIN
    lines = [(line, title_size, LegendItem(title, bold=True))
             for line in _wrapped(title, title_size, inner)]  # fmt: skip
    lines.append(("", size, LegendItem("")))
    for item in items:
        lines += [(line, size, item) for line in _wrapped(item.text, size, inner)]
        lines.append(("", size // 2, item))
    height = sum(line_size * 3 // 2 for _, line_size, _ in lines) + 2 * _PAGE_MARGIN
    page = Image.new("RGB", (_PAGE_WIDTH, max(_PAGE_HEIGHT, height)), _STRIP)
    draw, place = ImageDraw.Draw(page), _PAGE_MARGIN
    for line, line_size, item in lines:
        font = _font(line, line_size, item.bold)
        draw.text((_PAGE_MARGIN, place), line, fill=item.color, font=font)
        place += line_size * 3 // 2
    return np.asarray(page)


def drawable(text: str, *alternatives: str) -> str:
    """The first of these texts that a font of this host can draw.

    Latin text always can; Chinese needs a CJK font under ``/usr/share/fonts``. When none of them
    can, the last one with question marks for what is missing.
    """
    for candidate in (text, *alternatives):
        if _drawing_font(candidate) is not None:
            return candidate
    vera = vera_path(bold=False)
    return "".join(c if _has_glyph(vera, c) else "?" for c in (text, *alternatives)[-1])


@functools.lru_cache(4096)
def _wrapped(text: str, size: int, width: int) -> tuple[str, ...]:
    """``text`` in lines of at most ``width`` pixels, broken at spaces, else between characters."""
    if _length(text, size, bold=True) <= width:
        return (text,)
    lines: list[str] = []
    line = ""
    for word in _words(text):
        if line and _length(line + word.rstrip(), size, bold=True) > width:
            lines.append(line.rstrip())
            line = ""
        while len(word) > 1 and _length(word.rstrip(), size, bold=True) > width:
            fitting = max(1, int(len(word) * width / _length(word, size, bold=True)))
            lines.append(word[:fitting])
            word = word[fitting:]
        line += word
    return (*lines, line.rstrip())


def _words(text: str) -> list[str]:
    """Pieces of ``text`` that stay together; Chinese is broken after any character."""
    words: list[str] = []
    for character in text:
        ends = not words or words[-1].endswith(" ") or ord(words[-1][-1]) >= 0x2E80
        if ends:
            words.append(character)
        else:
            words[-1] += character
    return words


@functools.lru_cache(4096)
def _length(text: str, size: int, bold: bool) -> float:
    return float(_font(text, size, bold).getlength(text))


def _font(text: str, size: int, bold: bool) -> FreeTypeFont:
    path = _drawing_font(text)
    if path is None or path == vera_path(bold=False):
        return _vera(size, bold)
    return _loaded(path, size)


@functools.lru_cache(4096)
def _drawing_font(text: str) -> Path | None:
    """A font that has every character of ``text``."""
    fonts = [vera_path(bold=False), *_cjk_fonts()]
    return next((path for path in fonts if all(_has_glyph(path, c) for c in text)), None)


@functools.cache
def _has_glyph(path: Path, character: str) -> bool:
    """Whether the font draws ``character`` as more than its mark for what it lacks."""
    font = _loaded(path, 16)
    missing = font.getmask("\uffff")
    drawn = font.getmask(character)
    return character == " " or (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))


@functools.cache
def _cjk_fonts() -> tuple[Path, ...]:
    found = {path for name in _CJK_FONTS for path in _FONT_FOLDER.rglob(f"{name}.[to]t[fc]")}
    return tuple(sorted(found))


def _vera(size: int, bold: bool) -> FreeTypeFont:
    return _loaded(vera_path(bold), size)


@functools.cache
def vera_path(bold: bool) -> Path:
    """The font file of Bitstream Vera in reportlab."""
    import reportlab

    return Path(reportlab.__file__).parent / "fonts" / ("VeraBd.ttf" if bold else "Vera.ttf")


@functools.cache
def _loaded(path: Path, size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
