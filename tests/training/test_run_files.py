"""Corrupt files of a run, changed data and two trainings in one folder: refused or repaired, with one clear line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fastfcn.data.description import CATALOG
from fastfcn.errors import DataError, OutputError, WeightsError
from fastfcn.training import run_log
from fastfcn.training.run import Run
from fastfcn.training.train import train
from fastfcn.utils import lock
from fastfcn.utils.files import replace_file
from fastfcn.utils.lock import locked
from fastfcn.utils.machine import Machine
from tests.helpers.tiny import tiny_recipe, write_streets

CPU = Machine("cpu", workers=0)
CHANGES = ("optim.steps=4", "eval.every=2", 'backbone={kind="pyramid", name="lcnet_035", pretrained="none"}')
RECIPE = tiny_recipe(*CHANGES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "finished"
    train(RECIPE, data, out, CPU)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Run:
    shutil.copytree(finished, tmp_path / "run")
    return Run(tmp_path / "run")


def resume(run: Run, data: Path, **options: bool) -> None:
    train(RECIPE, data, run.folder, CPU, resume=True, **options)


def rewrite(path: Path, change: Callable[[dict[str, str], dict[str, torch.Tensor]], None]) -> None:
    """Change header and tensors as another program would, without a checksum, as in files of earlier versions."""
    with safe_open(str(path), framework="pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header.pop("checksum", None)
    change(header, tensors)
    save_file(tensors, path, header)


def refused(run: Run, data: Path) -> WeightsError:
    with pytest.raises(WeightsError) as error:
        resume(run, data)
    assert str(run.checkpoint) in error.value.message
    assert f"Remove {run.checkpoint}" in error.value.hint
    assert f"load_from={run.last}" in error.value.hint
    return error.value


@pytest.mark.parametrize("place", [0.3, 0.6, 0.999])
def test_a_flipped_bit_of_the_checkpoint_is_noticed(run: Run, data: Path, place: float):
    content = bytearray(run.checkpoint.read_bytes())
    content[int(place * len(content))] ^= 1
    run.checkpoint.write_bytes(content)
    assert "wrong checksum" in refused(run, data).message


def test_a_changed_step_of_the_checkpoint_is_noticed(run: Run, data: Path):
    content = run.checkpoint.read_bytes()
    assert content.count(rb"\"step\": 4") == 1
    run.checkpoint.write_bytes(content.replace(rb"\"step\": 4", rb"\"step\": 2"))
    assert "wrong checksum" in refused(run, data).message


@pytest.mark.parametrize("keep", [0, 7, 5000, -1])
def test_a_checkpoint_that_is_cut_short(run: Run, data: Path, keep: int):
    run.checkpoint.write_bytes(run.checkpoint.read_bytes()[:keep])
    refused(run, data)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ('{"step": 5, "best": 1.0, "best_step": 2}', "its step is 5, and the recipe has 4 steps"),
        ('{"step": -1, "best": 1.0, "best_step": 0}', "its step is -1"),
        ('{"step": 2.0, "best": 1.0, "best_step": 2}', "its step is 2.0"),
        ('{"step": true, "best": 1.0, "best_step": 0}', "its step is True"),
        ('{"step": "2", "best": 1.0, "best_step": 2}', "its step is '2'"),
        ('{"step": 2, "best": "high", "best_step": 2}', "its best mIoU is 'high'"),
        ('{"step": 2, "best": Infinity, "best_step": 2}', "its best mIoU is inf"),
        ('{"step": 2, "best": 1.0, "best_step": 3}', "its best_step is 3"),
        ('{"step": 2, "best": 1.0}', "instead of step, best, best_step"),
        ('{"step": 2, "best": 1.0, "best_step": 2, "mood": 1}', "mood"),
        ("[]", "has nothing"),
        ("1", "has nothing"),
        ("", "is damaged"),
        pytest.param("[" * 100_000, "is damaged", id="nested"),
    ],
)
def test_impossible_facts_of_a_checkpoint(run: Run, data: Path, facts: str, reason: str):
    rewrite(run.checkpoint, lambda header, _: header.update(facts=facts))
    assert reason in refused(run, data).message


def test_a_checkpoint_without_facts_or_of_another_format(run: Run, data: Path):
    rewrite(run.checkpoint, lambda header, _: header.pop("facts"))
    assert "has nothing" in refused(run, data).message
    rewrite(run.checkpoint, lambda header, _: header.update(format="fastfcn-weights-1"))
    assert "its format is 'fastfcn-weights-1'" in refused(run, data).message


def without_optimizer(_: dict, tensors: dict[str, torch.Tensor]) -> None:
    for name in [name for name in tensors if name.startswith("optimizer.")]:
        del tensors[name]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_optimizer, "state of the optimizer is missing"),
        (lambda _, tensors: tensors.update({"optimizer.9999.momentum_buffer": torch.zeros(1)}), "optimizer.9999"),
        (lambda _, tensors: tensors.update({"optimizer.x": torch.zeros(1)}), "optimizer.x is not a state"),
        (lambda _, tensors: tensors.update({"optimizer.0.momentum_buffer": torch.zeros(2)}), "the weight"),
        (lambda _, tensors: tensors.pop("model.head.classifier.bias"), "head.classifier.bias"),
    ],
)
def test_tensors_of_a_checkpoint_that_do_not_fit(run: Run, data: Path, change: Callable, reason: str):
    rewrite(run.checkpoint, change)
    assert reason in refused(run, data).message


def test_a_checkpoint_of_an_earlier_version_has_no_checksum(run: Run, data: Path):
    rewrite(run.checkpoint, lambda *_: None)
    resume(run, data)


def test_without_its_checkpoint_a_run_starts_again(run: Run, data: Path, finished: Path):
    run.checkpoint.unlink()
    resume(run, data)
    assert [line["step"] for line in run.read_log() if "loss" in line] == [1, 2, 3, 4]
    assert [line.get("loss") for line in run.read_log()] == [line.get("loss") for line in Run(finished).read_log()]


def test_what_a_run_without_its_checkpoint_has_learned_is_kept(
    run: Run, data: Path, finished: Path, capsys: pytest.CaptureFixture[str]
):
    run.checkpoint.unlink()
    resume(run, data)
    assert "last.ckpt is missing: training starts again from step 0" in capsys.readouterr().err
    for name in ("log.jsonl", "weights.safetensors", "last.safetensors"):
        kept = (run.folder / name).with_stem(f"{Path(name).stem}_before")
        assert kept.read_bytes() == (finished / name).read_bytes()


def test_missing_best_weights_are_said(run: Run, data: Path, capsys: pytest.CaptureFixture[str]):
    run.best.unlink()
    resume(run, data)
    assert "weights.safetensors is missing, the best weights so far (mIoU" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["last.ckpt", "log.jsonl"])
def test_a_folder_in_place_of_a_file(run: Run, data: Path, name: str):
    (run.folder / name).unlink()
    (run.folder / name).mkdir()
    with pytest.raises((WeightsError, OSError), match=name):
        resume(run, data)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_dataset_description_in_every_encoding_is_copied(
    data: Path, tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
):
    """Into the folder of the run, where its recipe looks for it."""
    monkeypatch.chdir(tmp_path)
    text = (CATALOG / "streets.toml").read_text()
    Path("mine.toml").write_bytes(text.encode(encoding))
    recipe = tiny_recipe(*CHANGES, "data.dataset=mine.toml")
    Run("run").start(recipe)
    assert Path("run/mine.toml").read_text() == text


DAMAGED = {
    "zeros": b"\0\0\0\0\n",
    "null": b"null\n",
    "an empty object": b"{}\n",
    "a cut line": b'{"step": 4, "lo\n',
    "not UTF-8": b'{"step": 4, "loss\xff": 1.0}\n',
    "a list": b"[1]\n",
    "a step that is not a number": b'{"step": "4", "loss": 1.0}\n',
    "a negative step": b'{"step": -4, "loss": 1.0}\n',
    "a loss that is not a number": b'{"step": 4, "loss": "low"}\n',
    "a huge integer": b'{"step": 4, "loss": ' + b"9" * 400 + b"}\n",
    "scores that are not scores": b'{"step": 4, "validation": [1]}\n',
    "deep nesting": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_tail_of_the_log_is_dropped_with_a_warning(run: Run, kind: str):
    before, lines = run.log.read_bytes(), run.read_log()
    run.log.write_bytes(before + DAMAGED[kind])
    assert run_log.read(run.log) == (lines, [len(lines) + 1])
    warning = run_log.cut(run.log, 4)
    assert f"{run.log} is damaged; dropped line {len(lines) + 1}." in warning
    assert run.log.read_bytes() == before
    assert (run.folder / "log.jsonl.damaged").read_bytes() == before + DAMAGED[kind]
    assert run_log.cut(run.log, 4) == ""


def test_resuming_says_which_lines_are_damaged(run: Run, data: Path, capsys: pytest.CaptureFixture[str]):
    lines = run.log.read_bytes().splitlines(keepends=True)
    run.log.write_bytes(b'{"step": 1, "lo\n' + b"".join(lines[1:]) + b"\0" * 512)
    resume(run, data)
    assert f"Warning: {run.log} is damaged; dropped line 1." in capsys.readouterr().err
    assert run.log.read_bytes() == b"".join(lines[1:])


@pytest.mark.parametrize("end", [b"\0" * 4096, b'{"step": 5, "los', b"\xff\xfe"])
def test_a_last_line_without_an_end_is_not_called_damaged(run: Run, end: bytes):
    before, lines = run.log.read_bytes(), run.read_log()
    run.log.write_bytes(b"\xef\xbb\xbf" + before.replace(b"\n", b"\r\n") + end)
    assert run_log.read(run.log) == (lines, [])


def test_a_log_of_garbage_is_still_a_run(run: Run, data: Path):
    run.checkpoint.unlink()
    run.log.write_bytes(b"garbage\n")
    with pytest.raises(OutputError, match="already contains a run"):
        train(RECIPE, data, run.folder, CPU)


def test_a_full_disk_at_the_log_is_an_output_error(run: Run):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    run.log.unlink()
    run.log.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"Cannot write .*log\.jsonl: no space left on device"):
        run.append([{"step": 1, "loss": 1.0}])


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a file system needs root on Linux")
def test_training_on_a_full_disk_ends_with_one_line(data: Path, tmp_path: Path):
    (tmp_path / "full").mkdir()
    done = in_namespace(f"mount -t tmpfs -o size=16k tmpfs {tmp_path}/full", data, tmp_path / "full" / "run", "0")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "no space left on device" in done.stderr


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a file system needs root on Linux")
def test_shared_memory_that_is_too_small_for_workers(data: Path, tmp_path: Path):
    done = in_namespace("mount -t tmpfs -o size=64k tmpfs /dev/shm", data, tmp_path / "run", "2")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "shared memory (/dev/shm) is too small" in done.stderr
    assert "--workers 0" in done.stderr
    assert "docker run --shm-size=1g" in done.stderr


def in_namespace(mount: str, data: Path, out: Path, workers: str) -> subprocess.CompletedProcess[str]:
    """Train in a mount namespace after the command `mount`; skips the test if the system refuses it."""
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this system does not allow mount namespaces")
    command = [sys.executable, "-m", "fastfcn", "train", "demo", *RECIPE_CHANGES, "--data", str(data), "--out",
               str(out), "--workers", workers, "--accelerator", "cpu", "--no-report"]  # fmt: skip
    script = f'{mount} && exec "$@"'
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FASTFCN_KERNELS": "off"}
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *command],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_changed_classes_are_refused(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch):
    """As if dataset.toml was edited: two classes exchange their ids."""
    content = json.loads(run.dataset.read_text())
    classes = content["classes"]
    classes[0]["ids"], classes[1]["ids"] = classes[1]["ids"], classes[0]["ids"]
    run.dataset.write_text(json.dumps(content))
    with pytest.raises(DataError, match="The dataset differs from the one that") as error:
        resume(run, data)
    assert "class 0 (sky): ids [1] in the run, ids [0] now" in error.value.message
    assert "class 1 (building): ids [0] in the run, ids [1] now" in error.value.message
    assert "--accept-changed-data" in error.value.hint


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda content: content["classes"].pop(), "classes: 8 in the run, 9 now"),
        (lambda content: content["classes"][1].update(name="house"), "name house in the run, name building now"),
        (lambda content: content["classes"][1].update(color=[1, 2, 3]), "color [1, 2, 3] in the run"),
        (lambda content: content.update(ignored=[{}]), "ignored: [{}] in the run, [] now"),
        (lambda content: content.update(labels_kind="color"), "labels_kind: color in the run, index now"),
        (lambda content: content["splits"]["val"].update(images=9), "val: 9 images in the run, 3 now"),
        (lambda content: content["splits"]["train"].update(names="x"), "train: other names of the 6 images"),
        (lambda content: content["splits"]["train"].update(mask_bytes=1), "train, bytes of all masks: 1 in the run"),
    ],
)
def test_every_part_of_the_fingerprint_counts(run: Run, data: Path, change: Callable, expected: str):
    content = json.loads(run.dataset.read_text())
    change(content)
    run.dataset.write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        resume(run, data)
    assert expected in error.value.message


def test_fewer_images_are_refused_or_accepted(run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(data, tmp_path / "fewer")
    for path in (tmp_path / "fewer").glob("*/train/0000.png"):
        path.unlink()
    with pytest.raises(DataError, match="train: 6 images in the run, 5 now"):
        resume(run, tmp_path / "fewer")
    labels = run.labels.read_text()
    resume(run, tmp_path / "fewer", accept_changed_data=True)
    assert "train: 6 images in the run, 5 now" in capsys.readouterr().err
    assert run.labels.read_text() != labels  # counted again
    resume(run, tmp_path / "fewer")


def test_data_in_another_place_are_the_same_data(run: Run, data: Path, tmp_path: Path):
    shutil.copytree(data, tmp_path / "moved")
    resume(run, tmp_path / "moved")


def test_a_run_without_a_fingerprint_resumes_and_gets_one(run: Run, data: Path):
    before = run.dataset.read_bytes()
    run.dataset.unlink()
    resume(run, data)
    assert run.dataset.read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"classes": 1}', "\0", pytest.param("[" * 100_000, id="nested")])
def test_a_damaged_fingerprint(run: Run, data: Path, content: str):
    run.dataset.write_text(content)
    with pytest.raises(DataError, match=r"fingerprint\.json is damaged") as error:
        resume(run, data)
    assert "Remove" in error.value.hint


def test_a_folder_in_use_is_refused(run: Run, data: Path):
    """The lock belongs to another process."""
    code = """
import sys
from pathlib import Path
from fastfcn.utils.lock import locked
with locked(Path(sys.argv[1]) / "run.lock", "training"):
    print("locked", flush=True)
    input()
"""
    command = [sys.executable, "-c", code, str(run.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(OutputError, match=rf"is in use by another training \(process {holder.pid} on ") as error:
            resume(run, data)
        assert "choose another --out" in error.value.hint
        holder.kill()  # its lock ends with it, although the file stays
        holder.wait()
        assert (run.folder / "run.lock").exists()
        resume(run, data)
    assert not (run.folder / "run.lock").exists()


def test_a_process_cannot_train_twice_into_a_folder(tmp_path: Path):
    with locked(tmp_path / "run.lock", "training"):
        for _ in range(2):  # a refusal does not release the lock
            with pytest.raises(OutputError, match=f"process {os.getpid()}"), locked(tmp_path / "run.lock", "training"):
                pass
    with locked(tmp_path / "run.lock", "training"):
        pass


def test_a_restarted_process_waits_for_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain, tries = lock._acquire, []

    def acquire(path: Path, purpose: str) -> int:
        tries.append(path)
        if len(tries) < 3:
            raise OutputError("in use")
        return plain(path, purpose)

    monkeypatch.setattr(lock, "_acquire", acquire)
    with pytest.raises(OutputError, match="in use"), locked(tmp_path / "run.lock", "training"):
        pass
    with locked(tmp_path / "run.lock", "training", wait=60):
        assert len(tries) == 3


def test_a_lock_on_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastfcn.utils.lock.fcntl", None)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with locked(tmp_path / "run.lock", "training"):
        holder = json.loads((tmp_path / "run.lock").read_text())
    (tmp_path / "run.lock").write_text(json.dumps(holder | {"pid": dead.pid}))
    with locked(tmp_path / "run.lock", "training"):
        pass
    (tmp_path / "run.lock").write_text(json.dumps(holder | {"pid": os.getppid()}))
    with pytest.raises(OutputError, match="is in use"), locked(tmp_path / "run.lock", "training"):
        pass


def test_what_killed_processes_left_is_removed(run: Run, data: Path):
    with replace_file(run.checkpoint) as temporary:
        killed = shutil.copyfile(run.checkpoint, run.folder / f"{temporary.name}")
        shutil.copyfile(killed, run.folder / ".last.123-0.ckpt")  # its name in earlier versions
        (temporary.parent / ".last.12-ab.ckpt").write_text("half")
        (temporary.parent / ".last.notes.ckpt").write_text("of the user")
        (temporary.parent / ".report.12-ab.html").write_text("another command may be writing it")
    resume(run, data)
    hidden = sorted(path.name for path in run.folder.iterdir() if path.name.startswith("."))
    assert hidden == [".last.notes.ckpt", ".report.12-ab.html"]


RECIPE_CHANGES = [
    "name=tiny", "weight_init=openmmlab", "data.base_size=[64, 96]", "data.crop=[64, 96]", "neck.width=8",
    "head.width=8", "auxiliary.width=8", "optim.batch=4", *CHANGES,
]  # fmt: skip
