"""Images of segmentation maps: colors, positions and sizes."""

import numpy as np
import pytest
from PIL import Image

from fastfcn.visualize import borders, colorize, contact_sheet, legend, overlay, palette_image

COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def test_colorize_gives_each_class_its_color_and_ignored_pixels_black():
    label = np.array([[0, 1], [2, 255]], np.uint8)
    assert colorize(label, COLORS).tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 0, 0]]]
    assert colorize(label, COLORS).dtype == np.uint8


def test_colorize_takes_wide_integers():
    assert colorize(np.array([[2, 300]], np.int64), COLORS).tolist() == [[[0, 0, 255], [0, 0, 0]]]


def test_borders_part_the_classes_once():
    label = np.zeros((4, 6), np.uint8)
    label[:, 3:] = 1
    line = borders(label)
    assert line[:, 2].all()
    assert line.sum() == 4
    assert borders(label, thickness=2).sum() == 8


def test_borders_of_one_class_are_empty():
    assert not borders(np.full((5, 5), 3, np.uint8)).any()


def test_overlay_mixes_image_and_color():
    image = np.full((6, 6, 3), 100, np.uint8)
    label = np.zeros((6, 6), np.uint8)
    assert overlay(image, label, COLORS, 0.5)[2, 2].tolist() == [178, 50, 50]
    assert np.array_equal(overlay(image, label, COLORS, 0.0), image)
    assert np.array_equal(overlay(image, label, COLORS, 1.0), colorize(label, COLORS))


def test_overlay_draws_light_lines_between_classes():
    image = np.full((6, 6, 3), 100, np.uint8)
    label = np.zeros((6, 6), np.uint8)
    label[:, 3:] = 2
    mixed = overlay(image, label, COLORS)
    assert (mixed[:, 2].astype(int).sum(-1) > mixed[:, 1].astype(int).sum(-1) + 200).all()
    assert np.array_equal(mixed[:, 0], mixed[:, 1])


def test_classes_that_are_left_out_show_the_image():
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    label = np.zeros((9, 12), np.uint8)
    label[:, 4:8], label[:, 8:] = 1, 2
    mixed, plain = overlay(image, label, COLORS, leave_out=[0, 2]), overlay(image, label, COLORS)
    assert np.array_equal(mixed[:, :3], image[:, :3])
    assert np.array_equal(mixed[:, 8:], image[:, 8:])
    assert np.array_equal(mixed[:, 3:8], np.where(np.arange(3, 8)[None, :, None] == 3, mixed[:, 3:8], plain[:, 3:8]))
    assert (mixed[:, 3] >= image[:, 3]).all()  # the light line
    assert np.array_equal(overlay(image, label, COLORS, leave_out=[0, 1, 2]), image)
    between = np.where(label == 1, 2, 0).astype(np.uint8)
    assert np.array_equal(overlay(image, between, COLORS, leave_out=[0, 2]), image)  # no line between two left out


def test_outlines_have_the_color_of_their_area_and_lie_inside():
    image = np.full((12, 12, 3), 9, np.uint8)
    label = np.zeros((12, 12), np.uint8)
    label[2:10, 2:10] = 1
    drawn = overlay(image, label, COLORS, leave_out=[0], outline=True)
    edge = np.zeros((12, 12), bool)
    edge[2:10, 2:10] = True
    edge[4:8, 4:8] = False
    assert (drawn[edge] == COLORS[1]).all()
    assert (drawn[~edge] == 9).all()
    both = overlay(image, label, COLORS, outline=True)
    assert (both[1, 5] == COLORS[0]).all()
    assert (both[5, 5] == 9).all()


def test_overlay_refuses_another_size():
    with pytest.raises(ValueError, match=r"\(6, 6\).*\(6, 5\)"):
        overlay(np.zeros((6, 6, 3), np.uint8), np.zeros((6, 5), np.uint8), COLORS)


def test_palette_image_keeps_the_ids_through_a_file(tmp_path):
    ids = np.array([[7, 8], [255, 0]], np.uint8)
    palette_image(ids, {7: (128, 64, 128), 8: (244, 35, 232)}).save(tmp_path / "mask.png")
    read = Image.open(tmp_path / "mask.png")
    assert read.mode == "P"
    assert np.array_equal(np.asarray(read), ids)
    assert np.asarray(read.convert("RGB"))[0].tolist() == [[128, 64, 128], [244, 35, 232]]
    assert not np.asarray(read.convert("RGB"))[1].any()


def _has(image: Image.Image, color: tuple[int, int, int]) -> bool:
    return bool((np.asarray(image) == color).all(-1).any())


def test_legend_shows_every_class():
    image = legend(["red", "green", "blue"], COLORS)
    assert all(_has(image, color) for color in COLORS)


def test_legend_with_shares_lists_the_largest_first_and_no_others():
    image = np.asarray(legend(["red", "green", "blue"], COLORS, {"red": 0.2, "blue": 0.8}))
    red, blue = ((image == color).all(-1).any(1).argmax() for color in (COLORS[0], COLORS[2]))
    assert blue < red
    assert not _has(Image.fromarray(image), COLORS[1])


def test_a_legend_of_many_classes_has_columns():
    names = [f"class number {index}" for index in range(150)]
    colors = [(index, 255 - index, 90) for index in range(150)]
    image = legend(names, colors)
    assert 0.6 < image.width / image.height < 2
    assert all(_has(image, color) for color in colors)


def test_legend_keeps_to_the_width_asked_for():
    names = ["sky", "building", "a name that is far too long to fit into any column of a legend, " * 2]
    image = legend(names, COLORS, width=700)
    assert image.width == 700
    assert all(_has(image, color) for color in COLORS)


def test_an_empty_legend_is_an_image():
    assert legend([], []).width > 0


def test_a_contact_sheet_contains_all_images_of_all_rows():
    rows = [[np.full((20, 30, 3), value + column, np.uint8) for column in range(3)] for value in (10, 60)]
    sheet = contact_sheet(rows, ["image", "truth", "prediction"], ["first", "second"], "Title", cell_width=60)
    pixels = np.asarray(sheet)
    for row in rows:
        for image in row:
            assert ((pixels == image[0, 0]).all(-1)).sum() >= 60 * 40
    assert (pixels[:, 0] == 255).all()


def test_contact_sheet_sits_on_its_footer():
    footer = Image.new("RGB", (50, 40), (1, 2, 3))
    rows = [[np.zeros((20, 30, 3), np.uint8)]]
    plain, with_footer = contact_sheet(rows, ["image"]), contact_sheet(rows, ["image"], footer=footer)
    assert with_footer.height > plain.height
    assert _has(with_footer, (1, 2, 3))
