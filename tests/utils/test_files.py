"""Files are complete or do not exist."""

import os
from pathlib import Path

import pytest

from fastfcn.errors import OutputError
from fastfcn.utils.files import make_folder, remove_temporary_files, replace_file, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(target: Path, error: BaseException) -> None:
    with replace_file(target) as temporary:
        temporary.write_text("half of the n")
        raise error


def test_a_file_appears_when_it_is_complete(tmp_path: Path):
    target = tmp_path / "new" / "deeper" / "image.png"
    with replace_file(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".png"  # writers choose the format by the suffix
        assert temporary.name.startswith(".")  # hidden from patterns such as *.png
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert names(target.parent) == ["image.png"]


def test_an_error_leaves_the_old_file(tmp_path: Path):
    target = tmp_path / "notes.txt"
    write_text(target, "old")
    with pytest.raises(KeyError):
        write_half(target, KeyError("name"))
    assert target.read_text() == "old"
    assert names(tmp_path) == ["notes.txt"]


def test_an_error_before_writing_is_raised(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), replace_file(tmp_path / "notes.txt"):
        _ = 1 / 0
    assert names(tmp_path) == []


def test_text_is_utf_8(tmp_path: Path):
    write_text(tmp_path / "a.txt", "Straße, 道路")
    write_text(tmp_path / "a.txt", "Straße, 道路\n")
    assert (tmp_path / "a.txt").read_bytes() == "Straße, 道路\n".encode()


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for call in (make_folder, lambda path: write_text(path / "notes.txt", "x")):
        with pytest.raises(OutputError, match="file/below") as error:
            call(tmp_path / "file" / "below")
        assert "not a directory" in error.value.message.lower()
        assert error.value.hint
    with pytest.raises(OutputError, match="file"):
        make_folder(tmp_path / "file")


def test_a_folder_in_the_way_is_an_output_error(tmp_path: Path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="taken"):
        write_text(tmp_path / "taken", "x")
    assert names(tmp_path) == ["taken"]


def test_a_full_disk_is_an_output_error(tmp_path: Path):
    with pytest.raises(OutputError, match=r"notes\.txt: no space left") as error:
        write_half(tmp_path / "notes.txt", OSError(28, "No space left on device"))
    assert error.value.exit_code == 2
    assert names(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="permission denied"):
            make_folder(tmp_path)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("stem", ["m" * 251, "\u00e4" * 125, "a" * 200, "b"])
def test_the_longest_names_can_be_written(tmp_path: Path, stem: str):
    """255 bytes are allowed; the temporary name must not be longer, nor end inside a character."""
    target = tmp_path / f"{stem}.txt"
    with replace_file(target) as temporary:
        assert len(os.fsencode(temporary.name)) <= 255
        temporary.write_text("whole")
    assert names(tmp_path) == [target.name]


@pytest.mark.parametrize("name", ["m" * 252 + ".txt", "m." + "t" * 300])
def test_names_that_are_too_long_are_an_output_error(tmp_path: Path, name: str):
    with pytest.raises(OutputError, match="name too long"):
        write_text(tmp_path / name, "x")
    assert names(tmp_path) == []


def test_two_files_with_the_same_beginning_have_different_temporary_names(tmp_path: Path):
    first, second = (tmp_path / ("m" * 250 + f"{number}.png") for number in (1, 2))
    with replace_file(first) as one, replace_file(second) as other:
        assert one != other
        one.write_text("1")
        other.write_text("2")
    assert (first.read_text(), second.read_text()) == ("1", "2")


def test_make_folder_returns_an_existing_folder(tmp_path: Path):
    assert make_folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert make_folder(tmp_path / "a" / "b").is_dir()


def test_only_temporary_files_of_the_targets_are_removed(tmp_path: Path):
    target = tmp_path / "a[1].ckpt"
    with replace_file(target) as temporary:
        temporary.write_text("whole")
        kept = temporary.name
    for name in (kept, ".a[1].77-3.ckpt", ".a[1].77-3.txt", ".a[1].x-3.ckpt", ".b.77-3.ckpt", ".a1.77-3.ckpt"):
        (tmp_path / name).write_text("half")
    remove_temporary_files(target, tmp_path / "missing" / "file.txt")
    assert names(tmp_path) == [".a1.77-3.ckpt", ".a[1].77-3.txt", ".a[1].x-3.ckpt", ".b.77-3.ckpt", "a[1].ckpt"]
