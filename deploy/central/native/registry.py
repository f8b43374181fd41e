"""The schema registry: Apicurio, asked by its Confluent API, its schemas in an H2 file.

The file is written with every change, so that a kill -9 loses no id that was given out. It
depends on no other server: schemas can be had while the log or the database is away.
"""

import json
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from signal import SIGTERM
from typing import Final
from urllib.request import urlopen

from deploy.central.native import java, versions
from deploy.central.native.cache import Cache
from deploy.central.native.installing import run
from deploy.central.native.properties import write_properties
from deploy.central.native.service import HOST, Instance, Profile, Stack, StackFailed

_ARTIFACT: Final = f"io.apicurio:apicurio-registry-app:{versions.APICURIO}:tar.gz:all"
_HEAP_MB: Final = 400


class Registry:
    """Apicurio as the launcher's service."""

    name = "registry"
    version = versions.APICURIO
    ports = ("http", "health")
    stop_signal = SIGTERM
    start_s = 240.0

    def instances(self, profile: Profile) -> Sequence[str]:
        """One in each profile."""
        return (self.name,)

    def missing(self, cache: Cache) -> list[str]:
        """It needs Java, and Maven to be fetched."""
        return java.missing(cache, self.name, self.version)

    def install(self, cache: Cache) -> None:
        """Fetch the distribution by Maven and unpack it."""
        java.install(cache)
        cache.place(self.name, self.version, _install)

    def prepare(self, instance: Instance) -> None:
        """Write the configuration, H2 makes its file by itself."""
        if ";" in str(instance.data):
            raise StackFailed(f"{instance.data}: the registry's file cannot lie under a `;`")
        lines = {
            "quarkus.http.host": HOST,
            "quarkus.http.port": instance.ports["http"],
            "quarkus.http.access-log.enabled": "false",
            "quarkus.management.host": HOST,
            "quarkus.management.port": instance.ports["health"],
            "apicurio.storage.kind": "sql",
            "apicurio.storage.sql.kind": "h2",
            # Written at once; and not closed by H2's own hook while requests are still answered.
            "apicurio.datasource.url": f"jdbc:h2:file:{instance.data}/registry"
            ";WRITE_DELAY=0;DB_CLOSE_ON_EXIT=FALSE",
            "apicurio.datasource.username": "registry",
            "apicurio.datasource.password": instance.stack.secret("registry"),
            "apicurio.datasource.jdbc.initial-size": 2,
            "apicurio.datasource.jdbc.min-size": 2,
            "apicurio.datasource.jdbc.max-size": 10,
        }
        write_properties(_config_path(instance), lines)

    def command(self, instance: Instance) -> Sequence[str]:
        """Run the Quarkus application."""
        cache = instance.stack.cache
        jar = cache.path(self.name, self.version) / "quarkus-run.jar"
        return [
            java.program(cache),
            *java.memory(_HEAP_MB, instance.folder),
            *java.QUICK_START,
            f"-Dquarkus.config.locations={_config_path(instance).as_uri()}",
            "-jar",
            str(jar),
        ]

    def is_ready(self, instance: Instance) -> bool:
        """Ask for the list of subjects, which comes from its database."""
        try:
            with urlopen(f"{_url(instance)}/subjects", timeout=2) as answer:  # noqa: S310 - http
                return isinstance(json.loads(answer.read()), list)
        except (HTTPException, ValueError):
            return False

    def settle(self, instance: Instance) -> None:
        """Nothing: central sets what it wants of each subject."""

    def env(self, stack: Stack) -> Mapping[str, str]:
        """Tell the base of the Confluent API."""
        return {"SPINE_REGISTRY": _url(Instance(self.name, stack))}


def _config_path(instance: Instance) -> Path:
    return instance.folder / "registry.properties"


def _url(instance: Instance) -> str:
    return f"http://{HOST}:{instance.ports['http']}/apis/ccompat/v7"


def _install(folder: Path) -> None:
    packed = folder / "packed"
    java.maven("copy", f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={packed}")
    (archive,) = packed.glob("*.tar.gz")
    run(["tar", "xzf", str(archive), "-C", str(folder)])
    archive.unlink()
    packed.rmdir()
