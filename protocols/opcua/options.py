"""What an installer sets for an OPC UA server and for each of its points."""

from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

DEFAULT_PORT: Final = 4840  # registered for opc.tcp with IANA


class OpcuaDevice(BaseModel):
    """How one OPC UA server is reached and how it is asked to push."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(
        description="Where the server listens, as opc.tcp://HOST:PORT/PATH; the port is 4840 if "
        "left out. No user name here: see user."
    )
    timeout_s: float = Field(
        default=4.0, gt=0, le=60, description="How long to wait for each answer, in seconds."
    )
    publishing_interval_ms: float = Field(
        default=500.0, ge=10, le=3_600_000, description="How often the server pushes what changed."
    )
    sampling_interval_ms: float | None = Field(
        default=None,
        ge=0,
        le=3_600_000,
        description="How often the server looks at each value; the publishing interval if left "
        "out, 0 for as fast as it can.",
    )
    queue_size: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="How many values of a point the server keeps between two publications; more "
        "values than that are lost at the server.",
    )
    trigger: Literal["value", "timestamp"] = Field(
        default="value",
        description="What counts as a change: a new value or status, or also a new source time.",
    )
    keepalive_s: float = Field(
        default=5.0,
        ge=0.5,
        le=600,
        description="How often the server says that it lives when nothing changed, in seconds.",
    )
    session_timeout_s: float = Field(
        default=300.0,
        ge=10,
        le=86_400,
        description="How long the server keeps a session that asks nothing, in seconds; longer "
        "than the longest poll interval.",
    )
    chunk: int = Field(
        default=500,
        ge=1,
        le=10_000,
        description="How many points one request names at most; a server's own limit is kept too.",
    )
    user: str | None = Field(default=None, description="User name; needs an encrypted channel.")
    password: SecretStr | None = Field(default=None, description="Password of the user.")

    @field_validator("url")
    @classmethod
    def _reachable(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "opc.tcp" or not parts.hostname:
            msg = "must read opc.tcp://HOST:PORT"
            raise ValueError(msg)
        if parts.username is not None or parts.password is not None:
            msg = "must not carry a user name or password; set user and password instead"
            raise ValueError(msg)
        if parts.port is None:  # the property itself refuses what is no port number
            parts = parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{DEFAULT_PORT}")
        return parts.geturl()


class OpcuaPoint(BaseModel):
    """Which node a point is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: str = Field(
        min_length=1,
        max_length=4_096,
        description="The node's id, as ns=2;s=AHU1.SupplyTemp or ns=3;i=1042.",
    )
