"""Roles (image or mask) and splits from the names of folders and files."""

import re
from typing import NamedTuple


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MASKS = _words(
    "mask masks maskes msk msks label labels lbl lbls gt gts groundtruth truth annotation annotations annot annots anno"
    " ann anns seg segs segm segmentation segmentations segmentationclass segmentationclassaug segmentationclasspng"
    " semantic target targets y trimap trimaps matte mattes gtfine gtcoarse labelids labeltrainids labeled labelled"
    " pedmasks cameraseg labelmap labelmaps manual 1st"
)
IMAGES = _words(
    "image images img imgs im jpegimages pngimages photo photos picture pictures pic pics leftimg8bit rgb input inputs"
    " x raw original originals orig src source frame frames sat camerargb data"
)
ANNOTATORS = _words("manual manuals 1st 2nd annotator observer expert reader")  # folders named after who drew the masks
# Visualizations, and annotations of other tasks: never semantic masks.
NOT_MASKS = _words(
    "segmentationobject segmentationclassvisualization segmentationobjectvisualization visualization visualizations"
    " visualisation vis viz overlay overlays preview previews instance instances instanceids depth depths disparity"
    " flow prediction predictions pred preds panoptic thumbs thumbnails result results"
)
SPLITS = {
    "train": "train", "training": "train", "trn": "train", "tr": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "eval": "val",
    "test": "test", "testing": "test", "tst": "test", "ts": "test",
}  # fmt: skip
_SPLIT = "train(?:ing)?|trn|val(?:id(?:ation)?)?|dev|eval|test(?:ing)?|tst"
_WHOLE = re.compile(rf"({_SPLIT})[_-]?(?:set|\d{{4}})?", re.I)
_PART = re.compile(rf"(?:^|(?<=[_\-. ]))({_SPLIT})(?:\d{{4}})?(?=$|[_\-. ])", re.I)
_GLUED = re.compile(rf"^({_SPLIT})(?=annot|mask|label|lbl|image|img|gt|seg)", re.I)
_CAMEL = re.compile(r"(?<=[a-z])(Tr|Ts|Val|Train|Test)(?=$|[_\-])")


class FolderName(NamedTuple):
    """The parsed name of a folder.

    `pattern` is the name with {split} in place of `split` (as written in the name); `role` is "image", "mask", "other"
    or ""; a name without role and split is `plain`.
    """

    pattern: str
    split: str
    role: str

    @property
    def plain(self) -> bool:
        return not self.split and not self.role


def folder_name(name: str) -> FolderName:
    """Parse the name of a folder."""
    if _WHOLE.fullmatch(name):
        return FolderName("{split}", name, "")
    match = _PART.search(name) or _GLUED.search(name) or _CAMEL.search(name)
    if not match:
        return FolderName(braced(name), "", role_of(name))
    before, after = name[: match.start()], name[match.end() :]
    role = role_of(f"{before} {after}")
    return FolderName(f"{braced(before)}{{split}}{braced(after)}", match[0], role)


def role_of(name: str) -> str:
    """The role that the words in `name` suggest: "image", "mask", "other" or ""."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+\w*", name)
    spelled = {word.lower() for word in [*words, *re.split(r"[_\-. ]+", name)]}
    joined = re.sub(r"[_\-. ]", "", name).lower()
    for role, words_of_role in (("other", NOT_MASKS), ("mask", MASKS), ("image", IMAGES)):
        if joined in words_of_role or spelled & words_of_role:
            return role
    return ""


def is_by_annotator(name: str) -> bool:
    """Whether the name of a folder says that somebody drew what is in it, such as 1st_manual."""
    return bool({word.rstrip("0123456789") or word for word in re.split(r"[_\-. ]+", name.lower())} & ANNOTATORS)


def canonical_split(written: str) -> str:
    """Normalize "training", "train2017" and similar to train, val or test; other names are unchanged."""
    word = re.sub(r"[_-]?(set|\d{4})?$", "", written.lower())
    return SPLITS.get(word, written)


class Affix(NamedTuple):
    """The prefix and suffix around the name that an image and its mask share."""

    before: str
    after: str

    def fits(self, stem: str) -> bool:
        long = len(stem) > len(self.before) + len(self.after)
        return long and stem.startswith(self.before) and stem.endswith(self.after)

    def shared_name(self, stem: str) -> str:
        return stem[len(self.before) : len(stem) - len(self.after)]


NO_AFFIX = Affix("", "")
_HEAD = re.compile(r"^([A-Za-z]+)([_\-. ]+)(?=.)")
_TAIL = re.compile(r"(?<=.)([_\-. ]+)([A-Za-z0-9]+)$")
_STEM_MASKS = (MASKS | NOT_MASKS | {"l", "p", "color", "colour", "rgbmask"}) - {"1st", "manual"}
_STEM_IMAGES = IMAGES - {"data"}


def stem_affix(stem: str) -> tuple[Affix, str]:
    """The known words at both ends of a file name, and the role they suggest ("" for none)."""
    before, after, roles = "", "", set()
    if (head := _HEAD.match(stem)) and (role := _stem_role(head[1])):
        before, roles = head[0], {role}
    rest = stem[len(before) :]
    while (tail := _TAIL.search(rest)) and (role := _stem_role(tail[2])):
        after, rest = tail[0] + after, rest[: tail.start()]
        roles.add(role)
    role = "mask" if "mask" in roles else "image" if roles else ""
    return Affix(before, after), role


def _stem_role(word: str) -> str:
    if word.lower() in _STEM_MASKS:
        return "mask"
    return "image" if word.lower() in _STEM_IMAGES else ""


def braced(text: str) -> str:
    """Escape braces, which have a meaning in patterns."""
    return text.replace("{", "{{").replace("}", "}}")
