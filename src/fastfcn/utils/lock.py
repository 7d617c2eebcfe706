"""One process per folder: a lock that ends with its process, however that ends."""

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from fastfcn.errors import OutputError
from fastfcn.utils.files import output_errors

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_locked: set[tuple[int, int]] = set()  # device and inode of the locks of this process


@contextmanager
def locked(path: Path, purpose: str, wait: float = 0.0) -> Iterator[None]:
    """Lock the folder of the file `path` for this process; raises OutputError, naming the holder, if another has it.

    `purpose`: what uses the folder, for messages, such as "training"; `wait`: seconds that the holder has to end.

    The system releases the lock of a process that was killed. Where the file system has no locks, the lock of a process
    that no longer exists on this host is taken over.
    """
    with output_errors(path):
        descriptor = _acquire_within(wait, path, purpose)
    status = os.fstat(descriptor)
    key = (status.st_dev, status.st_ino)
    _locked.add(key)
    try:
        with output_errors(path):
            _write_holder(descriptor)
        yield
    finally:
        _locked.discard(key)
        path.unlink(missing_ok=True)  # before it is released: a process that has opened it since notices
        os.close(descriptor)


def _acquire_within(seconds: float, path: Path, purpose: str) -> int:
    end = time.monotonic() + seconds
    while True:
        try:
            return _acquire(path, purpose)
        except OutputError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.2)


def _acquire(path: Path, purpose: str) -> int:
    """The descriptor of the locked file at `path`."""
    while True:
        if path.exists() and (path.stat().st_dev, path.stat().st_ino) in _locked:
            raise _in_use(path, purpose)  # opening and closing it would release the lock of this process
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _try_lock(descriptor):
                raise _in_use(path, purpose)
            if _is_same(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has removed it just now


def _try_lock(descriptor: int) -> bool:
    try:
        if fcntl is not None:
            # Not flock: dataloader workers would inherit that lock, and keep it if this process is killed.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
    return not _is_alive(_holder(os.read(descriptor, 4096)))


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _write_holder(descriptor: int) -> None:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(holder).encode())


def _holder(content: bytes) -> dict:
    try:
        holder = json.loads(content)
    except ValueError:  # also a holder that has not yet written its name
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_alive(holder: dict) -> bool:
    """Whether the process that wrote `holder` exists on this host."""
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int) or pid <= 0 or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def _in_use(path: Path, purpose: str) -> OutputError:
    holder = _holder(path.read_bytes()) if path.exists() else {}
    who = f" (process {holder.get('pid')} on {holder.get('host')}, since {holder.get('started')})" if holder else ""
    return OutputError(
        f"{path.parent} is in use by another {purpose}{who}.",
        "Wait until it ends or stop it, or choose another --out.",
    )
