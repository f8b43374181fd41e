"""Kafka: one broker that is its own controller, or three with TLS and rights for staging."""

import base64
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGTERM
from typing import Final

from deploy.central.native import java, kafka_access, versions
from deploy.central.native.cache import Cache
from deploy.central.native.certificates import identity_path, root_path
from deploy.central.native.installing import run
from deploy.central.native.kafka_wire import live_brokers
from deploy.central.native.properties import write_properties
from deploy.central.native.service import HOST, Instance, Profile, Stack, StackFailed

_NEEDED: Final = (
    f"org.apache.kafka:kafka_2.13:{versions.KAFKA}",
    f"org.apache.kafka:kafka-server:{versions.KAFKA}",
    f"org.slf4j:slf4j-simple:{versions.SLF4J}",
)
_LARGEST_BYTES: Final = 32 << 20
"""A record is a whole batch of a gateway, and is never split."""
_HEAP_MB: Final[Mapping[Profile, int]] = {"dev": 512, "staging": 384}
_INTERNAL: Final = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")


class Kafka:
    """Kafka as the launcher's service."""

    name = "kafka"
    version = versions.KAFKA
    ports = ("broker", "controller")
    stop_signal = SIGTERM
    start_s = 240.0

    def instances(self, profile: Profile) -> Sequence[str]:
        """One broker, or three where each record is kept by all and acknowledged by two."""
        return ("kafka",) if profile == "dev" else ("kafka1", "kafka2", "kafka3")

    def missing(self, cache: Cache) -> list[str]:
        """It needs Java, and Maven to be fetched."""
        return java.missing(cache, self.name, self.version)

    def install(self, cache: Cache) -> None:
        """Fetch the broker's libraries by Maven."""
        java.install(cache)
        cache.place(self.name, self.version, _install)

    def prepare(self, instance: Instance) -> None:
        """Write the configuration, and format the data folder where there is none."""
        if "," in str(instance.data):
            raise StackFailed(f"{instance.data}: the broker's data cannot lie under a comma")
        config = _config_path(instance)
        write_properties(config, _settings(instance, self.instances(instance.stack.profile)))
        if not (instance.data / "meta.properties").exists():
            tool = [*_java(instance, True), "kafka.tools.StorageTool", "format", "-c", str(config)]
            run([*tool, "--cluster-id", _cluster_id(instance.stack)])

    def command(self, instance: Instance) -> Sequence[str]:
        """Run the broker, which writes what it does to its output."""
        # Three brokers on one machine are there to be killed and started, one to be measured.
        is_brief = instance.stack.profile == "staging"
        return [*_java(instance, is_brief), "kafka.Kafka", str(_config_path(instance))]

    def is_ready(self, instance: Instance) -> bool:
        """Ask the broker whether the controller counts it among those in service."""
        secure = instance.stack.profile == "staging"
        context = kafka_access.context(instance.stack) if secure else None
        return _node(instance) in live_brokers(instance.ports["broker"], context)

    def settle(self, instance: Instance) -> None:
        """Give central's identity its rights, where there are rights."""
        if instance.stack.profile == "staging":
            kafka_access.grant(instance.stack, instance.ports["broker"])

    def env(self, stack: Stack) -> Mapping[str, str]:
        """Tell the brokers, and with TLS what to trust and to show."""
        names = self.instances(stack.profile)
        brokers = ",".join(f"{HOST}:{stack.ports[name]['broker']}" for name in names)
        told = {"SPINE_KAFKA": brokers, "SPINE_KAFKA_REPLICAS": str(len(names))}
        if stack.profile == "staging":
            told["SPINE_KAFKA_CA"] = str(root_path(stack))
            told["SPINE_KAFKA_IDENTITY"] = str(identity_path(stack, kafka_access.SERVICE))
        return told


def _settings(instance: Instance, names: Sequence[str]) -> dict[str, object]:
    stack, ports = instance.stack, instance.ports
    secure = stack.profile == "staging"
    kind = "SSL" if secure else "PLAINTEXT"
    voters = [
        f"{number}@{HOST}:{stack.ports[name]['controller']}" for number, name in enumerate(names, 1)
    ]
    return {
        "process.roles": "broker,controller",
        "node.id": _node(instance),
        "controller.quorum.voters": ",".join(voters),
        "listeners": f"BROKER://{HOST}:{ports['broker']},CONTROLLER://{HOST}:{ports['controller']}",
        "advertised.listeners": f"BROKER://{HOST}:{ports['broker']}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "BROKER",
        "listener.security.protocol.map": f"CONTROLLER:{kind},BROKER:{kind}",
        "log.dirs": instance.data,
        **_limits(),
        **_replication(len(names)),
        **(kafka_access.settings(stack) if secure else {}),
    }


def _limits() -> dict[str, object]:
    return {
        "auto.create.topics.enable": "false",
        "delete.topic.enable": "true",
        "message.max.bytes": _LARGEST_BYTES,
        "replica.fetch.max.bytes": _LARGEST_BYTES,
        "replica.fetch.response.max.bytes": _LARGEST_BYTES,
        # A week, and at most so much of each topic that a laptop has room for dozens.
        "log.retention.hours": 168,
        "log.retention.bytes": 1 << 30,
        "log.segment.bytes": 128 << 20,
        "log.cleaner.dedupe.buffer.size": 16 << 20,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "group.initial.rebalance.delay.ms": 0,
    }


def _replication(brokers: int) -> dict[str, object]:
    quorum = brokers // 2 + 1
    internal: dict[str, object] = {}
    for topic in _INTERNAL:
        internal[f"{topic}.num.partitions"] = 4
        internal[f"{topic}.replication.factor"] = brokers
    return {
        **internal,
        "transaction.state.log.min.isr": quorum,
        "share.coordinator.state.topic.min.isr": quorum,
        "default.replication.factor": brokers,
        "min.insync.replicas": quorum,
        "unclean.leader.election.enable": "false",
        # Who is killed is missed soon, and may come back soon: while its session lasts it may not.
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 4_000,
    }


def _java(instance: Instance, is_brief: bool) -> list[str]:
    cache = instance.stack.cache
    return [
        java.program(cache),
        *(java.QUICK_START if is_brief else ()),
        *java.memory(_HEAP_MB[instance.stack.profile], instance.folder),
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
        "-cp",
        str(cache.path("kafka", versions.KAFKA) / "*"),
    ]


def _node(instance: Instance) -> int:
    return int(instance.name.removeprefix("kafka") or 1)


def _config_path(instance: Instance) -> Path:
    return instance.folder / "kafka.properties"


def _cluster_id(stack: Stack) -> str:
    """Give the name all brokers of this stack know each other by."""
    path = stack.folder / "kafka-cluster-id"
    if not path.exists():
        # Never a hyphen first: the tool would take it for an option.
        path.write_text("s" + base64.urlsafe_b64encode(uuid.uuid4().bytes)[1:22].decode())
    return path.read_text()


def _install(folder: Path) -> None:
    project = java.pom(folder, _NEEDED)
    options = ("-f", str(project), "-DincludeScope=runtime", f"-DoutputDirectory={folder}")
    java.maven("copy-dependencies", *options)
