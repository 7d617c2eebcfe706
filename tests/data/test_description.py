import pytest

from fastfcn.data.description import DatasetDescription, description_names, load_description, parse_description
from fastfcn.errors import DataError

GOOD = """
format = 1
name = "fields"
title = "Fields, 2 classes"
home = ""
labels_kind = "index"
folders = ["."]
images = ["{split}/{name}.jpg"]
labels = ["{split}_masks/{name}.png"]
lists = []
splits = { train = "train", val = "val" }
ignored = [{ name = "cloud", ids = [255] }]
classes = [
  { name = "soil", color = [120, 80, 40], ids = [0] },
  { name = "crop", color = [40, 160, 60], ids = [1, 2] },
]
"""

CLASS_COUNTS = {
    "ade20k": 150,
    "camvid": 11,
    "cityscapes": 19,
    "coco_stuff": 171,
    "pascal_context": 60,
    "pascal_context_59": 59,
    "voc": 21,
}


def mistakes(text: str) -> str:
    with pytest.raises(DataError) as caught:
        parse_description(text, "fields.toml")
    return caught.value.message


def test_good_description():
    description = parse_description(GOOD, "fields.toml")
    assert description.class_names == ("soil", "crop")
    assert description.colors == ((120, 80, 40), (40, 160, 60))
    assert description.classes[1].ids == (1, 2)
    assert description.ignored[0].name == "cloud"


def test_catalog_is_complete_and_consistent():
    assert set(CLASS_COUNTS) <= set(description_names())
    for name in description_names():
        description = load_description(name)
        assert description.name == name
        assert len(description.classes) == CLASS_COUNTS.get(name, len(description.classes))


@pytest.mark.parametrize(
    ("dataset", "raw_id", "name", "color"),
    [
        ("cityscapes", 7, "road", (128, 64, 128)),
        ("cityscapes", 33, "bicycle", (119, 11, 32)),
        ("ade20k", 1, "wall", (120, 120, 120)),
        ("ade20k", 150, "flag", (92, 0, 255)),
        ("voc", 15, "person", (192, 128, 128)),
        ("pascal_context", 0, "background", (120, 120, 120)),
        ("pascal_context", 59, "wood", (31, 0, 255)),
        ("pascal_context_59", 59, "wood", (31, 0, 255)),
        ("coco_stuff", 12, "stop sign", (0, 0, 224)),
        ("coco_stuff", 89, "toothbrush", None),
        ("coco_stuff", 91, "banner", None),
        ("coco_stuff", 181, "wood", (64, 64, 0)),
        ("camvid", 10, "bicyclist", (0, 128, 192)),
    ],
)
def test_catalog_facts(dataset, raw_id, name, color):
    entries = [entry for entry in load_description(dataset).classes if raw_id in entry.ids]
    assert [entry.name for entry in entries] == [name]
    assert color is None or entries[0].color == color


def test_every_raw_id_of_the_published_masks_is_named():
    published = {
        "cityscapes": set(range(34)),
        "ade20k": set(range(151)),
        "voc": {*range(21), 255},
        "pascal_context": set(range(60)),
        "pascal_context_59": set(range(60)),
        "camvid": set(range(12)),
        "coco_stuff": {*range(182), 255} - {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90},
    }
    for name, ids in published.items():
        description = load_description(name)
        named = [value for entry in (*description.classes, *description.ignored) for value in entry.ids]
        assert sorted(named) == sorted(ids), name


def test_published_counts_and_download_instructions():
    counts = {
        "ade20k": (20210, 2000),
        "camvid": (367, 101),
        "cityscapes": (2975, 500),
        "coco_stuff": (118287, 5000),
        "pascal_context": (4998, 5105),
        "pascal_context_59": (4998, 5105),
        "voc": (1464, 1449),
    }
    for name, published in counts.items():
        description = load_description(name)
        assert (description.counts["train"][0], description.counts["val"][0]) == published
        assert description.get
        assert description.license
    assert load_description("voc").counts["trainaug"] == (10582,)
    assert parse_description(GOOD, "fields.toml").counts == {}


def test_all_mistakes_come_at_once():
    text = GOOD.replace("title =", "titel =").replace("[120, 80, 40]", "[120, 80, 300]")
    text = text.replace('labels_kind = "index"', 'labels_kind = "indices"').replace("ids = [255]", "id = 255")
    message = mistakes(text)
    assert "fields.toml" in message
    assert "title: this key is missing" in message
    assert 'titel: unknown key; did you mean "title"?' in message
    assert 'ignored.0.id: unknown key; did you mean "ids"?' in message
    assert "classes.0.color.2" in message
    assert "300" in message
    assert "'index' or 'color', but found 'indices'" in message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[1, 2]", "[0, 2]", "the id 0 occurs twice"),
        ("ids = [255]", "ids = [2]", "the id 2 occurs twice"),
        (", ids = [0]", "", "'soil' needs ids"),
        ('"crop"', '"soil"', "the name 'soil' occurs twice"),
        ('"index"', '"color"', "'soil' has ids, but color masks are identified by color"),
        ("_masks/{name}", "_masks/{nam}", "labels: the placeholder {nam} is not in images"),
        ("{split}/{name}.jpg", "{split}/a.jpg", "images: every pattern needs the placeholder {name}"),
        ("{split}/{name}.jpg", "../{split}/{name}.jpg", "not a path below the data folder"),
        ("{split}/{name}.jpg", "{split/{name}.jpg", "braces do not match"),
        ("[1, 2]", "[1, 70000]", "65535"),
        ("lists = []", "lists = []\ncounts = { test = [9] }", "counts: there is no split 'test'"),
        ("lists = []", "lists = []\ncounts = { val = [0] }", "counts.val.0"),
        ("lists = []", "lists = []\ncounts = { val = [] }", "counts.val"),
        ("lists = []", 'lists = []\nlicences = "free"', 'licences: unknown key; did you mean "license"?'),
    ],
)
def test_each_mistake_is_explained(old, new, expected):
    assert old in GOOD
    assert expected in mistakes(GOOD.replace(old, new, 1))


def test_color_masks_need_distinct_colors():
    text = GOOD.replace('"index"', '"color"').replace(", ids = [0]", "").replace(", ids = [1, 2]", "")
    text = text.replace(", ids = [255]", ", color = [0, 0, 0]")
    assert parse_description(text, "x").ignored[0].color == (0, 0, 0)
    assert "the color [120, 80, 40] occurs twice" in mistakes(text.replace("[40, 160, 60]", "[120, 80, 40]"))
    assert "ignored: 'cloud' needs a color" in mistakes(text.replace(", color = [0, 0, 0]", ""))


def test_broken_toml_and_unknown_names(tmp_path):
    assert "not valid TOML" in mistakes("format = ")
    with pytest.raises(DataError, match='did you mean "cityscapes"'):
        load_description("citiscapes")
    with pytest.raises(DataError, match=r"Cannot read .*absent\.toml"):
        load_description(tmp_path / "absent.toml")
    (tmp_path / "own.toml").write_text(GOOD)
    assert load_description(tmp_path / "own.toml").name == "fields"


def test_more_classes_than_a_byte_can_tell():
    classes = "".join(f'{{ name = "c{i}", color = [0, 0, 0], ids = [{i}] }},' for i in range(255))
    assert "at most 254" in mistakes(GOOD.split("classes =")[0].replace("[255]", "[999]") + f"classes = [{classes}]")


def test_the_old_key_licence_is_still_read():
    assert (
        parse_description(GOOD.replace("lists = []", 'lists = []\nlicence = "CC BY 4.0"'), "x").license == "CC BY 4.0"
    )
    assert (
        parse_description(GOOD.replace("lists = []", 'lists = []\nlicense = "CC BY 4.0"'), "x").license == "CC BY 4.0"
    )


COLORS = """
labels_kind = "color"
ignored = [{ name = "void", colors = [[0, 0, 0], [1, 1, 1]] }]
classes = [
  { name = "road", color = [9, 0, 0], colors = [[8, 0, 0], [9, 0, 0]] },
  { name = "tree", color = [0, 9, 0] },
  { name = "bush", color = [0, 8, 0] },
]
"""


def colored(more: str = "") -> str:
    return GOOD[: GOOD.index("labels_kind")] + GOOD[GOOD.index("folders") : GOOD.index("ignored")] + COLORS + more


def test_several_colors_for_one_class():
    road, *_ = parse_description(colored(), "x.toml").classes
    assert (road.color, road.mask_values("color")) == ((9, 0, 0), ((9, 0, 0), (8, 0, 0)))
    assert "the color [8, 0, 0] occurs twice" in mistakes(colored().replace("[0, 8, 0]", "[8, 0, 0]"))
    assert "'soil' has colors, but the masks contain ids" in mistakes(
        GOOD.replace("ids = [0] }", "ids = [0], colors = [[1, 2, 3]] }")
    )


THREE = GOOD.replace("ids = [1, 2] }", 'ids = [1, 2] },\n  { name = "weed", color = [9, 9, 9], ids = [5] }')


@pytest.mark.parametrize(
    ("more", "classes", "ignored"),
    [
        ('merge = { plant = ["weed", "crop"] }', {"soil": (0,), "plant": (5, 1, 2)}, {"cloud": (255,)}),
        ('merge = { soil = ["weed"] }', {"soil": (0, 5), "crop": (1, 2)}, {"cloud": (255,)}),
        ('merge = { weed = ["soil", "weed"] }', {"weed": (5, 0), "crop": (1, 2)}, {"cloud": (255,)}),
        ('drop = ["crop"]', {"soil": (0,), "weed": (5,)}, {"cloud": (255,), "crop": (1, 2)}),
        ('drop = ["weed"]\nmerge = { a = ["soil"] }', {"a": (0,), "crop": (1, 2)}, {"cloud": (255,), "weed": (5,)}),
    ],
)
def test_merged_and_dropped_classes(more: str, classes: dict, ignored: dict):
    description = parse_description(THREE + more + "\n", "x.toml")
    assert {entry.name: entry.ids for entry in description.classes} == classes
    assert {entry.name: entry.ids for entry in description.ignored} == ignored
    assert (description.merge, description.drop) == ({}, ())


def test_merged_colors():
    description = parse_description(colored('merge = { green = ["bush", "tree"] }\ndrop = ["road"]\n'), "x.toml")
    assert [(e.name, e.color, e.mask_values("color")) for e in description.classes] == [
        ("green", (0, 8, 0), ((0, 8, 0), (0, 9, 0)))
    ]
    assert description.ignored[1].mask_values("color") == ((9, 0, 0), (8, 0, 0))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('merge = { a = ["sol"] }', "merge.a: there is no class 'sol'; did you mean \"soil\"?"),
        ('drop = ["cloud"]', "drop: there is no class 'cloud'"),
        ('drop = ["soil", "soil"]', "merge and drop: 'soil' occurs twice"),
        ('merge = { soil = ["weed"] }\ndrop = ["soil"]', "merge and drop: 'soil' occurs twice"),
        ('merge = { a = ["weed"], b = ["weed"] }', "merge and drop: 'weed' occurs twice"),
        ('merge = { soil = ["crop"], weed = ["soil"] }', "merge and drop: 'soil' occurs twice"),
        ("merge = { a = [] }", "merge.a: Tuple should have at least 1 item"),
        ('drop = ["soil", "crop", "weed"]', "drops all classes"),
    ],
)
def test_mistakes_in_merge_and_drop(more: str, expected: str):
    assert expected in mistakes(THREE + more + "\n")


def test_versions_before_merging_can_read_descriptions_without_it():
    text = parse_description(GOOD, "x.toml").model_dump_json()
    assert not any(f'"{key}"' in text for key in ("colors", "merge", "drop"))
    merged = parse_description(colored('drop = ["tree"]\n'), "x.toml")
    assert DatasetDescription.model_validate_json(merged.model_dump_json()) == merged


NAMED = (
    GOOD.replace("{split}/", "").replace("{split}_masks", "masks") + 'names = { train = ["a", "b c"], val = ["é"] }\n'
)


def test_names_of_each_split_in_the_description():
    description = parse_description(NAMED, "fields.toml")
    assert description.is_listed
    assert description.names == {"train": ("a", "b c"), "val": ("é",)}
    assert not parse_description(GOOD, "fields.toml").is_listed
    assert DatasetDescription.model_validate_json(description.model_dump_json()) == description


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ('val = ["é"]', 'test = ["é"]', "every split needs them: train, val"),
        (', val = ["é"]', "", "every split needs them: train, val"),
        ('val = ["é"]', "val = []", "names.val"),
        ('"a"', '"../a"', "'../a' is not below the data folder"),
        ('"a"', '"x\\\\..\\\\a"', "is not below the data folder"),
        ('"a"', '"/etc/a"', "'/etc/a' is not below the data folder"),
        ("lists = []", 'lists = ["{split}.txt"]', "leave one of them empty"),
    ],
)
def test_names_are_validated(before: str, after: str, expected: str):
    assert before in NAMED
    assert expected in mistakes(NAMED.replace(before, after))
