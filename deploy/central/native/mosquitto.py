"""Mosquitto: an MQTT broker with passwords and rights by topic; with TLS in staging."""

import os
import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGTERM
from typing import Final

from deploy.central.native.cache import Cache
from deploy.central.native.certificates import identity_path, root_path
from deploy.central.native.installing import run
from deploy.central.native.service import HOST, Instance, Profile, Stack, StackFailed

USER: Final = "spine"
DEVICE: Final = "device"
_RIGHTS: Final[Mapping[str, str]] = {USER: "#", DEVICE: "building/#"}
"""Who may read and write below which topic; nobody without a password anything."""
_PATHS: Final = os.pathsep.join(
    (os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin")
)


class Mosquitto:
    """Mosquitto as the launcher's service: the machine's own, or Debian's package unpacked."""

    name = "mosquitto"
    version = "2"
    ports = ("mqtt",)
    stop_signal = SIGTERM
    start_s = 60.0

    def instances(self, profile: Profile) -> Sequence[str]:
        """One in each profile."""
        return (self.name,)

    def missing(self, cache: Cache) -> list[str]:
        """It needs Mosquitto itself, or Debian's tools to fetch it with; no root."""
        if _installed() or cache.holds(self.name, self.version):
            return []
        tools = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
        return ["mosquitto (from your system's packages, or mosquitto.org)"] if tools else []

    def install(self, cache: Cache) -> None:
        """Take the machine's own, or unpack Debian's packages into the cache."""
        if not _installed():
            cache.place(self.name, self.version, _unpack)

    def prepare(self, instance: Instance) -> None:
        """Write configuration, rights and passwords."""
        instance.data.mkdir(exist_ok=True)
        rights = [f"user {user}\ntopic readwrite {topic}\n" for user, topic in _RIGHTS.items()]
        (instance.folder / "rights").write_text("\n".join(rights))
        (instance.folder / "mosquitto.conf").write_text("\n".join(_config(instance)) + "\n")
        _write_passwords(instance)

    def command(self, instance: Instance) -> Sequence[str]:
        """Run the broker with its configuration."""
        broker = program(instance.stack.cache, "mosquitto")
        return [*broker, "-c", str(instance.folder / "mosquitto.conf")]

    def is_ready(self, instance: Instance) -> bool:
        """See whether it accepts connections."""
        with socket.create_connection((HOST, instance.ports["mqtt"]), 2.0):
            return True

    def settle(self, instance: Instance) -> None:
        """Nothing: all of it is in the configuration."""

    def env(self, stack: Stack) -> Mapping[str, str]:
        """Tell where it is and how central and devices get in."""
        told = {"STACK_MQTT": f"{HOST}:{stack.ports[self.name]['mqtt']}"}
        for user in _RIGHTS:
            told[f"STACK_MQTT_{user.upper()}"] = f"{user}:{stack.secret(f'mqtt-{user}')}"
        if stack.profile == "staging":
            told["STACK_MQTT_CA"] = str(root_path(stack))
        return told


def _config(instance: Instance) -> list[str]:
    folder = instance.folder
    lines = [
        f"listener {instance.ports['mqtt']} {HOST}",
        "allow_anonymous false",
        f"password_file {folder}/passwords",
        f"acl_file {folder}/rights",
        "persistence true",
        f"persistence_location {instance.data}/",
        "autosave_on_changes true",
        "autosave_interval 1",
        "max_queued_messages 100000",
        "log_dest stderr",
        "user root",  # only heeded where root starts it: it then stays who may write its folder
    ]
    if instance.stack.profile == "staging":
        identity = identity_path(instance.stack, "mosquitto")
        lines += [f"certfile {identity}", f"keyfile {identity}", "tls_version tlsv1.3"]
    return lines


def _write_passwords(instance: Instance) -> None:
    path = instance.folder / "passwords"
    path.touch(mode=0o600)
    told = [f"{user}:{instance.stack.secret(f'mqtt-{user}')}\n" for user in _RIGHTS]
    path.write_text("".join(told))
    run([*program(instance.stack.cache, "mosquitto_passwd"), "-U", str(path)])


def _installed() -> bool:
    return all(shutil.which(one, path=_PATHS) for one in ("mosquitto", "mosquitto_passwd"))


def program(cache: Cache, name: str) -> list[str]:
    """Give the command of a program of Mosquitto, once it is installed."""
    if _installed():
        return [str(shutil.which(name, path=_PATHS))]
    root = cache.path(Mosquitto.name, Mosquitto.version)
    libraries = {str(path.parent) for path in root.rglob("*.so.*")}
    found = shutil.which(name, path=f"{root}/usr/sbin{os.pathsep}{root}/usr/bin")
    return ["env", f"LD_LIBRARY_PATH={os.pathsep.join(sorted(libraries))}", str(found)]


def _unpack(folder: Path) -> None:
    """Fetch what the machine lacks for Mosquitto as a plain user, and unpack it side by side."""
    if os.geteuid() == 0:
        run(["apt-get", "-qq", "update"])
    options = ("-qq", "--no-install-recommends", "--reinstall", "--print-uris")
    listed = run(["apt-get", "install", *options, "mosquitto"])
    for name in re.findall(r"^'\S+' ([^_\s]+)_", listed, re.MULTILINE):
        run(["sh", "-c", 'cd "$0" && apt-get -qq download "$1"', str(folder), name])
    for package in folder.glob("*.deb"):
        run(["dpkg-deb", "-x", str(package), str(folder)])
        package.unlink()
    if not (folder / "usr/sbin/mosquitto").exists():
        raise StackFailed(f"apt names no package with mosquitto in it, but:\n{listed}")
