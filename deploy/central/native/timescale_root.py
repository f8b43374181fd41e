"""The folder of TimescaleDB's programs: Debian packages unpacked side by side, never installed.

They are newer than the machine they run on, C library included. So each program is started by the
loader that came with it, which finds all libraries in the folder: nothing is mounted, no root is
needed, and the machine's own packages stay as they are.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy.central.native import versions
from deploy.central.native.cache import Cache
from deploy.central.native.installing import run
from deploy.central.native.service import StackFailed

NAME: Final = "timescale"
_MIRROR: Final = "http://deb.debian.org/debian"
_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_ZONES: Final = Path("/usr/share/zoneinfo/Etc/UTC")
_POSTGRES: Final = Path("usr/lib/postgresql", versions.POSTGRES)
_PACKAGES: Final = (
    f"postgresql-{versions.POSTGRES}",
    f"postgresql-client-{versions.POSTGRES}",
    f"postgresql-{versions.POSTGRES}-timescaledb={versions.TIMESCALEDB}*",
    *("libaudit1", "libc6", "libcap-ng0", "libcap2", "libcom-err2", "libcrypt1", "libgcc-s1"),
    *("libgcrypt20", "libgpg-error0", "libgssapi-krb5-2", "libicu76", "libk5crypto3"),
    *("libkeyutils1", "libkrb5-3", "libkrb5support0", "libldap2", "liblz4-1", "liblzma5"),
    *("libpam0g", "libpq5", "libreadline8t64", "libsasl2-2", "libssl3t64", "libstdc++6"),
    *("libsystemd0", "libtinfo6", "libxml2", "libxxhash0", "libzstd1", "zlib1g"),
)
_NOT_NEEDED: Final = ("etc", "usr/share/man", "usr/share/locale", "usr/lib/*/gconv")
# Found from its own place, so that the folder may be moved.
_STARTER: Final = """#!/bin/sh
root="${{0%/*}}/../../../../.."
exec "$root/{loader}" --inhibit-cache --library-path "$root/{libraries}" \\
  --argv0 "$0" "$0.real" "$@"
"""


def bin_folder(cache: Cache) -> Path:
    """Tell where the programs are: `postgres`, `psql` and so on."""
    return cache.path(NAME, versions.TIMESCALEDB) / _POSTGRES / "bin"


def missing(cache: Cache) -> list[str]:
    """List what keeps TimescaleDB from running here, or from being installed first."""
    lacks = []
    if not _ZONES.exists():
        lacks.append("time zones (apt-get install tzdata)")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        lacks.append(
            "setpriv, to run Postgres as another user than root (apt-get install util-linux)"
        )
    if cache.holds(NAME, versions.TIMESCALEDB):
        return lacks
    lacks += [
        f"{tool}, to fetch Debian packages (Debian and its kin have it)"
        for tool in ("apt-get", "dpkg-deb")
        if shutil.which(tool) is None
    ]
    if not _KEYRING.exists():
        lacks.append("Debian's keys (apt-get install debian-archive-keyring)")
    return lacks


def install(cache: Cache) -> None:
    """Fetch the packages, checked against Debian's keys, and unpack them."""
    cache.place(NAME, versions.TIMESCALEDB, _fill)


def _fill(folder: Path) -> None:
    packed = folder / "packed"
    _download(packed)
    for package in sorted(packed.glob("*.deb")):
        run(["dpkg-deb", "--extract", str(package), str(folder)])
    names = sorted(path.name for path in packed.glob("*.deb"))
    shutil.rmtree(packed)
    # What exactly was taken, for whoever must tell two machines apart.
    (folder / "packages.txt").write_text("\n".join(names) + "\n")
    _prune(folder)
    _let_start(folder)
    _let_read(folder)


def _download(packed: Path) -> None:
    """Run apt on a state of its own; the machine's proxies and certificates hold for it too."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (packed / name).mkdir(parents=True)
    status, source = packed / "state/status", packed / "debian.sources"
    status.touch()
    source.write_text(
        f"Types: deb\nURIs: {os.environ.get('STACK_DEBIAN_MIRROR') or _MIRROR}\n"
        f"Suites: {versions.DEBIAN}\nComponents: main\nSigned-By: {_KEYRING}\n"
    )
    settings = {
        "Dir::State": packed / "state",
        "Dir::State::status": status,
        "Dir::Cache": packed / "cache",
        "Dir::Etc::sourcelist": source,
        "Dir::Etc::sourceparts": "/dev/null",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        # The folder is not open to apt's own user.
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",
    }
    given = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    run(["apt-get", "-q", *given, "update"])
    here = ["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(packed)]
    run([*here, "apt-get", "-q", *given, "download", *_PACKAGES])


def _prune(folder: Path) -> None:
    unneeded = (*_NOT_NEEDED, f"{_POSTGRES}/lib/bitcode", f"{_POSTGRES}/lib/pgxs")
    for pattern in unneeded:
        for path in folder.glob(pattern):
            shutil.rmtree(path)


def _let_start(folder: Path) -> None:
    """Put a starter in the place of each program; it is renamed to `<program>.real`."""
    loader = _only(folder, "usr/lib/*/ld-linux-*.so.*")
    starter = _STARTER.format(
        loader=loader.relative_to(folder), libraries=loader.parent.relative_to(folder)
    )
    for program in sorted((folder / _POSTGRES / "bin").iterdir()):
        program.rename(program.with_name(f"{program.name}.real"))
        program.write_text(starter)
        program.chmod(0o755)


def _only(folder: Path, pattern: str) -> Path:
    found: Sequence[Path] = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise StackFailed(f"{pattern} is there {len(found)} times in Debian's packages, not once")
    return found[0]


def _let_read(folder: Path) -> None:
    """Let the server's user read it, whatever the umask of who installs is."""
    for root, folders, _ in os.walk(folder):
        for name in (".", *folders):
            path = Path(root, name)
            if not path.is_symlink():
                path.chmod(0o755)
