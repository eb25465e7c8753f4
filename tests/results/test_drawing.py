from __future__ import annotations

from dataclasses import replace

import numpy as np

from dicom_node.results.drawing import (
    LegendItem,
    Sides,
    contour_colors,
    draw_contours,
    draw_heat,
    drawable,
    line_width,
    text_page,
    with_legend,
)
from tests.results import samples

SIDES = Sides.along(["L", "P"])


def test_a_label_that_is_faint_or_shares_its_colour_gets_one_of_its_own() -> None:
    labels = [
        replace(samples.RIGHT, value=1, color_rgb=(128, 128, 128)),
        replace(samples.RIGHT, value=2, color_rgb=(66, 135, 245)),
        replace(samples.RIGHT, value=3, color_rgb=(66, 135, 245)),
        *(replace(samples.RIGHT, value=n, color_rgb=(9, 9, 90)) for n in range(4, 256)),
    ]
    colors = contour_colors(labels)
    assert colors[2] == (66, 135, 245)
    assert len(set(colors.values())) == len(labels)
    assert all(max(color) - min(color) >= 60 for color in colors.values())


def test_a_contour_is_wider_where_the_picture_is_always_shown_reduced() -> None:
    assert [line_width(512, 512), line_width(2048, 1500), line_width(3000, 2500)] == [1, 2, 3]
    section = np.zeros((1500, 10), np.uint8)
    section[10:90] = 1
    drawn = draw_contours(np.zeros(section.shape, np.uint8), section, {1: (255, 0, 0)})
    assert (drawn[:, 5, 0] > 0).sum() == 4


def test_a_legend_leaves_the_picture_as_it_is_and_pads_on_the_right() -> None:
    picture = np.random.default_rng(1).integers(0, 255, (40, 48, 3), np.uint8)
    sheet = with_legend(picture, [[LegendItem("Right lung", swatches=((9, 99, 200),))]], SIDES)
    assert (sheet[:40, :48] == picture).all()
    assert not sheet[:40, 48:].any()
    assert sheet.shape[1] == 384
    assert (sheet == (9, 99, 200)).all(axis=2).any()


def test_a_long_legend_wraps_instead_of_running_out_of_the_picture() -> None:
    picture = np.zeros((100, 500, 3), np.uint8)
    item = LegendItem("words " * 60, (200, 10, 10))
    sheet = with_legend(picture, [[item], [item]], SIDES)
    red = (sheet[..., 0] > 2 * sheet[..., 1].astype(int)) & (sheet[..., 0] > 60)
    assert sheet.shape[1] == 500
    assert not red[:, -8:].any()
    assert sheet.shape[0] > with_legend(picture, [[replace(item, text="words")]], SIDES).shape[0]


def test_a_wrapped_item_has_its_colour_once() -> None:
    picture, color = np.zeros((100, 500, 3), np.uint8), (9, 99, 200)

    def colored_pixels(text: str) -> int:
        sheet = with_legend(picture, [[LegendItem(text, swatches=(color,))]], SIDES)
        return int((sheet == color).all(axis=2).sum())

    assert colored_pixels("words " * 60) == colored_pixels("words") > 0


def test_the_sides_of_a_picture_follow_from_where_its_rows_and_columns_lead() -> None:
    assert Sides.along(["L", "P"]) == Sides("R", "L", "A", "P")
    assert Sides.along(["PL", "F"]) == Sides("AR", "PL", "H", "F")
    assert Sides.along([]) == Sides("", "", "", "")


def test_heat_leaves_what_weighed_nothing_as_it_was() -> None:
    grey = np.full((4, 4), 77, np.uint8)
    saliency = np.zeros((4, 4), np.float32)
    saliency[0, 0], saliency[1, 1], saliency[2, 2] = 1.0, np.nan, 7.0
    heated = draw_heat(grey, saliency)
    assert (heated[saliency == 0] == 77).all()
    assert (heated[1, 1] == 77).all()
    assert heated[0, 0, 0] > heated[0, 0, 2]
    assert (heated[2, 2] == heated[0, 0]).all()


def test_umlauts_accents_and_units_can_be_drawn_on_every_host() -> None:
    text = "KI-Ergebnis, nicht geprüft – Résultat non vérifié: 12 mm², ±3 µm, façade, Straße"
    assert drawable(text, "fallback") == text


def test_what_no_font_can_draw_gives_way_to_the_alternative_or_to_question_marks() -> None:
    assert drawable("\U00012000", "cuneiform") == "cuneiform"
    assert drawable("a\U00012000") == "a?"


def test_a_page_grows_with_its_text() -> None:
    short = text_page("Title", [LegendItem("One line")])
    long = text_page("Title", [LegendItem("word " * 2000)])
    assert short.shape == (600, 800, 3)
    assert long.shape[0] > 1000
    assert long.shape[1] == 800
