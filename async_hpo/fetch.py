"""The four files of Fashion-MNIST, whole, from wherever they can be had (Xiao et al., 2017, arXiv:1708.07747)."""

import hashlib
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torchvision
from torchvision.datasets.utils import check_integrity, download_url

from async_hpo.paths import DATA

#: File name -> MD5 sum, as torchvision publishes them.
FILES: dict[str, str] = dict(torchvision.datasets.FashionMNIST.resources)
MIRROR = torchvision.datasets.FashionMNIST.mirrors[0]
RAW = DATA / "FashionMNIST" / "raw"
DEBIAN_PACKAGE = "dataset-fashion-mnist"
#: When the four files were compressed (31 August 2017): Unix time, part of the bytes that the MD5 sums cover.
_GZIP_TIMES = {name: 1504176606 if name.startswith("train") else 1504176627 for name in FILES}
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def fetch(raw: Path = RAW) -> Path:
    """Make sure that the four original files lie in `raw`, whole, and return `raw`.

    A missing or damaged file is replaced, never used. Sources, in this order: `raw` itself, the
    Debian and Ubuntu package `dataset-fashion-mnist` where it is installed, the same package
    downloaded and unpacked without root, torchvision's download.

    Raises:
        FileNotFoundError: no source has the files; the message says what was tried.
    """
    raw = Path(raw)
    if not (missing := _damaged(raw)):
        return raw
    raw.mkdir(parents=True, exist_ok=True)
    tried = []
    for name, source in _SOURCES.items():
        print(f"Fashion-MNIST: {len(missing)} of {len(FILES)} files missing or damaged, trying {name} ...", flush=True)
        reason = "its files are not the original ones"
        try:
            source(raw, missing)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            reason = _one_line(error)
        if not (missing := _damaged(raw)):
            return raw
        tried.append(f"  - {name}: {reason}")
    raise FileNotFoundError(
        f"Fashion-MNIST is not complete: {', '.join(missing)} missing or damaged. Tried:\n"
        + "\n".join(tried)
        + f"\nTo put the files there by hand, copy {', '.join(missing)} (from {MIRROR} or any other copy) into {raw}"
    )


def _damaged(raw: Path) -> list[str]:
    return [name for name, md5 in FILES.items() if not check_integrity(raw / name, md5)]


def _one_line(error: Exception) -> str:
    detail = getattr(error, "stderr", None) or str(error) or type(error).__name__
    return detail.strip().splitlines()[-1]


def _take(folder: Path, raw: Path, names: list[str]) -> None:
    """Put whole files into `raw`, each in one step, so that an interrupt leaves no half file."""
    for name in names:
        content = _with_original_header((folder / name).read_bytes(), name)
        if hashlib.md5(content).hexdigest() == FILES[name]:
            with tempfile.TemporaryDirectory(dir=raw, prefix=".part-") as part:
                (Path(part) / name).write_bytes(content)
                (Path(part) / name).replace(raw / name)


def _with_original_header(content: bytes, name: str) -> bytes:
    """Restore the name and time in a gzip header (RFC 1952): Debian's package strips them, the MD5 sums cover them."""
    magic, flags, rest = content[:3], content[3], content[10:]
    if magic != b"\x1f\x8b\x08" or flags != 0:
        return content
    time, stem = struct.pack("<I", _GZIP_TIMES[name]), Path(name).stem.encode()
    return magic + b"\x08" + time + b"\x00\x03" + stem + b"\x00" + rest


def _from_installed_package(raw: Path, names: list[str]) -> None:
    if not DEBIAN_FOLDER.is_dir():
        raise FileNotFoundError(f"{DEBIAN_PACKAGE} is not installed")
    _take(DEBIAN_FOLDER, raw, names)


def _from_downloaded_package(raw: Path, names: list[str]) -> None:
    if shutil.which("apt-get") is None:
        raise FileNotFoundError("this system has no apt-get")
    with tempfile.TemporaryDirectory() as folder:
        try:
            _apt("download", DEBIAN_PACKAGE, folder=folder)
        except subprocess.CalledProcessError:  # no package lists on a fresh system: fetch a private copy of them
            Path(folder, "partial").mkdir()
            private = ["-o", f"Dir::State::lists={folder}", "-o", f"Dir::Cache={folder}"]
            _apt(*private, "update", folder=folder)
            _apt(*private, "download", DEBIAN_PACKAGE, folder=folder)
        package = next(Path(folder).glob(f"{DEBIAN_PACKAGE}*.deb"))
        _run("dpkg-deb", "-x", str(package), folder, folder=folder)
        _take(Path(folder) / DEBIAN_FOLDER.relative_to("/"), raw, names)


def _apt(*arguments: str, folder: str) -> None:
    _run("apt-get", "-q", "-o", "APT::Sandbox::User=", *arguments, folder=folder)


def _run(*command: str, folder: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)


def _from_torchvision(raw: Path, names: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=raw, prefix=".part-") as part:
        for name in names:
            download_url(MIRROR + name, part, name, FILES[name])
        _take(Path(part), raw, names)


_SOURCES: dict[str, Callable[[Path, list[str]], None]] = {
    f"the installed package {DEBIAN_PACKAGE}": _from_installed_package,
    f"the package {DEBIAN_PACKAGE} from apt-get": _from_downloaded_package,
    f"torchvision's download from {MIRROR}": _from_torchvision,
}
