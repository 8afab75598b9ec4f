"""The four files of Fashion-MNIST, whole, from wherever they can be had (Xiao et al., 2017, arXiv:1708.07747)."""

import functools
import hashlib
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
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
#: When the four files were compressed (31 August 2017): Unix time, part of the bytes that the MD5 sums cover.
_GZIP_TIMES = {name: 1504176606 if name.startswith("train") else 1504176627 for name in FILES}
#: Needs no root. A fresh system has no package lists, so it gets a private copy of them.
_APT_GET = f"""
get() {{ apt-get -q -o APT::Sandbox::User= "$@"; }}
own() {{ get -o Dir::State::lists="$PWD" -o Dir::Cache="$PWD" "$@"; }}
get download {DEBIAN_PACKAGE} || {{ own update; own download {DEBIAN_PACKAGE}; }}
dpkg-deb -x {DEBIAN_PACKAGE}*.deb "$PWD"
"""


def fetch(raw: Path = RAW) -> Path:
    """Make sure that the four original files lie in `raw`, whole, and return `raw`.

    A missing or damaged file is replaced, never used. Sources, in this order: `raw` itself, the Debian and Ubuntu
    package `dataset-fashion-mnist` where it is installed, the same package downloaded and unpacked without root,
    torchvision's download.

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
        with tempfile.TemporaryDirectory() as folder:
            try:
                _take(source(Path(folder), missing), raw, missing)
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                detail = getattr(error, "stderr", None) or str(error) or type(error).__name__
                reason = detail.strip().splitlines()[-1]
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


def _take(folder: Path, raw: Path, names: list[str]) -> None:
    """Put whole files into `raw`, each in one step, so that an interrupt leaves no half file."""
    for name in names:
        found = (folder / name).read_bytes()
        for content in (found, _with_original_header(found, name)):
            if hashlib.md5(content).hexdigest() == FILES[name]:
                part = raw / f".part-{name}"
                part.write_bytes(content)
                part.replace(raw / name)


def _with_original_header(content: bytes, name: str) -> bytes:
    """Put name and time into a gzip header (RFC 1952): Debian's package strips them, the MD5 sums cover them."""
    header = b"\x1f\x8b\x08\x08" + _GZIP_TIMES[name].to_bytes(4, "little") + b"\x00\x03"
    return header + Path(name).stem.encode() + b"\x00" + content[10:]


def _from_apt_get(folder: Path, names: list[str]) -> Path:
    (folder / "partial").mkdir()  # where apt-get keeps lists that are on their way
    utf8 = functools.partial(subprocess.run, encoding="utf-8", errors="replace")
    utf8(["/bin/sh", "-ec", _APT_GET], cwd=folder, check=True, capture_output=True, timeout=600)
    return folder / DEBIAN_FOLDER.relative_to("/")


def _from_torchvision(folder: Path, names: list[str]) -> Path:
    for name in names:
        download_url(MIRROR + name, folder, name, FILES[name])
    return folder


_SOURCES: dict[str, Callable[[Path, list[str]], Path]] = {
    f"the installed package {DEBIAN_PACKAGE}": lambda folder, names: DEBIAN_FOLDER,
    f"the package {DEBIAN_PACKAGE} from apt-get": _from_apt_get,
    f"torchvision's download from {MIRROR}": _from_torchvision,
}
