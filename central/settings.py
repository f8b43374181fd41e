"""What a central process can be told: one class, read once, all errors at once."""

from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import SettingsError
from shared.link import MAX_BODY_BYTES, MAX_FRAME_BYTES

PREFIX: Final = "SPINE_"


class Settings(BaseSettings):
    """Settings of central, from `SPINE_…` variables; flags of the command line go first."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    data: Path = Field(
        default=Path("data/central"),
        description="Folder of central's own files: the certificate authority, the local database.",
    )
    dsn: SecretStr | None = Field(
        default=None,
        description="Postgres to use, as a URL. Empty: central starts one of its own under `data`.",
    )
    owner_dsn: SecretStr | None = Field(
        default=None,
        description="The same database as its owner: for migrations and new projects. Needed with "
        "`dsn` by `setup`, and to bring the database up to date at a start.",
    )
    kafka: str | None = Field(
        default=None,
        description="Kafka brokers as `host:port,host:port`. Empty: the log lies in Postgres.",
    )
    kafka_ca: Path | None = Field(
        default=None, description="Root certificates (PEM) the brokers are checked against."
    )
    kafka_identity: Path | None = Field(
        default=None,
        description="Key and certificate (PEM) central shows to the brokers; with `kafka_ca`.",
    )
    kafka_replicas: int = Field(
        default=1,
        ge=1,
        le=7,
        description="Brokers that keep each new topic; from 3 on a record is in two before it "
        "counts.",
    )
    registry: SecretStr | None = Field(
        default=None,
        description="URL of the schema registry (Confluent API). Empty: schemas from files alone.",
    )
    egress_url: str | None = Field(
        default=None,
        description="Where `application` finds `egress` when they are two processes; it forwards "
        "the API there.",
    )
    host: str = Field(default="127.0.0.1", description="Address of the page and the human API.")
    port: int = Field(default=8080, ge=0, le=65_535, description="Port of page and human API.")
    link_host: str = Field(default="127.0.0.1", description="Address gateways connect to.")
    link_port: int = Field(default=8081, ge=0, le=65_535, description="Port of the link (mTLS).")
    enrol_host: str = Field(default="127.0.0.1", description="Address gateways enrol at.")
    enrol_port: int = Field(default=8082, ge=0, le=65_535, description="Port of the enrolment.")
    health_host: str = Field(default="127.0.0.1", description="Address of a module's health.")
    health_port: int = Field(
        default=8083,
        ge=0,
        le=65_535,
        description="Port of /healthz, /readyz and /metrics where a module runs alone.",
    )
    names: tuple[str, ...] = Field(
        default=("localhost", "127.0.0.1"),
        min_length=1,
        description="Names and addresses central is reached by (JSON list): they go into its "
        "certificate and are the only ones taken in a Host header.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="How log lines look; auto is text on a terminal, else JSON."
    )
    window_bytes: int = Field(
        default=MAX_BODY_BYTES,
        gt=0,
        le=MAX_FRAME_BYTES,
        description="Bytes of batch bodies a gateway may have sent and not yet seen accepted.",
    )
    batches_in_hand: int = Field(
        default=96, ge=1, le=1_000, description="Batches a session keeps; more are put off."
    )
    receipt_poll_s: float = Field(
        default=0.15, ge=0.02, le=5, description="Seconds between looks for settled batches."
    )
    deny_poll_s: float = Field(
        default=1.0, ge=0.05, le=2, description="Seconds between looks for revoked certificates."
    )
    live_poll_s: float = Field(
        default=0.3, ge=0.05, le=5, description="Seconds between looks for new latest values."
    )
    live_clients: int = Field(
        default=200, ge=1, le=10_000, description="Live sessions of one project at a time."
    )
    live_queue: int = Field(
        default=64, ge=1, le=10_000, description="Deltas that wait for one slow live client."
    )
    query_timeout_s: float = Field(
        default=10.0, ge=0.1, le=300, description="Seconds a query of the human API may take."
    )
    shutdown_s: float = Field(
        default=5.0, ge=0.1, le=60, description="Seconds open requests have at a stop."
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.kafka_ca is None) != (self.kafka_identity is None):
            msg = f"{variable('kafka_ca')} and {variable('kafka_identity')} go together"
            raise ValueError(msg)
        return self


def read(**flags: Any) -> Settings:
    """Read the settings once; a flag that is not None goes before its variable.

    Raises `SettingsError` with every problem at once; a given value is not repeated, for one may
    be a secret.
    """
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise SettingsError(
            "settings", [_explain(problem) for problem in error.errors()]
        ) from error
    except ValueError as error:  # pydantic-settings: a variable that should be JSON is not
        raise SettingsError("settings", [str(error)]) from error


def variable(name: str) -> str:
    """Name the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def _explain(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if not place:
        return str(problem["msg"]).removeprefix("Value error, ")
    field, _, rest = place.partition(".")
    return f"{variable(field)}{'.' + rest if rest else ''} (--{field}): {problem['msg']}"
