"""What an installer sets for an MQTT broker and for each point that its messages feed."""

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from protocols.mqtt.path import parse

MAX_IN_FLIGHT: Final = 500
TimeUnit = Literal["s", "ms", "us", "iso"]


class MqttDevice(BaseModel):
    """How one broker is reached, and which session there is ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(min_length=1, max_length=255, description="Name or address of the broker.")
    port: int = Field(default=1883, ge=1, le=65_535, description="Its port.")
    client_id: str = Field(
        min_length=1,
        max_length=200,
        description="Names our session at the broker: never change it, never use it twice. The "
        "broker keeps messages under this name while the gateway is away.",
    )
    username: str | None = Field(default=None, description="User name, if the broker wants one.")
    password: SecretStr | None = Field(default=None, description="Password of the user.")
    keepalive_s: int = Field(
        default=30, ge=1, le=3_600, description="Both sides notice a dead link within twice this."
    )
    version: Literal["3.1.1", "5"] = Field(
        default="3.1.1",
        description="MQTT version; 5 falls back to 3.1.1 where the broker does not speak it.",
    )
    session_expiry_s: int = Field(
        default=604_800,
        ge=60,
        le=0xFFFF_FFFE,
        description="How long the broker keeps the session while we are away (version 5 only; with "
        "3.1.1 the broker's own setting holds).",
    )
    max_in_flight: int = Field(
        default=100,
        ge=1,
        le=MAX_IN_FLIGHT,
        description="How many messages may wait for their acknowledgement; the broker's own limit "
        "(Mosquitto: 20) holds too.",
    )
    max_payload_bytes: int = Field(
        default=262_144,
        ge=1,
        le=16_777_216,
        description="A larger message is not decoded: its points become bad.",
    )
    timeout_s: float = Field(
        default=5.0, gt=0, le=60, description="How long to wait for each answer, in seconds."
    )

    @model_validator(mode="after")
    def _has_user_for_password(self) -> Self:
        if self.password is not None and self.username is None:
            msg = "a password needs a username"
            raise ValueError(msg)
        return self


class MqttPoint(BaseModel):
    """Which topic feeds a point, and where in its messages the value stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: str = Field(
        min_length=1, max_length=1_000, description="The topic, without wildcards (+ and #)."
    )
    path: str = Field(
        default="",
        max_length=1_000,
        description="Where the value stands in a JSON message, as a.b[0].c; empty if the message "
        "is the value itself.",
    )
    time_path: str | None = Field(
        default=None,
        max_length=1_000,
        description="Where the time of the value stands in a JSON message; the time of arrival "
        "counts if left out.",
    )
    time_unit: TimeUnit = Field(
        default="ms",
        description="What that time is: seconds, milliseconds or microseconds since 1970, or an "
        "ISO 8601 text with its zone.",
    )

    @field_validator("topic")
    @classmethod
    def _is_one_topic(cls, topic: str) -> str:
        if any(sign in topic for sign in "+#\0"):
            msg = "must name one topic: wildcards (+ and #) are not supported"
            raise ValueError(msg)
        return topic

    @field_validator("path", "time_path")
    @classmethod
    def _is_path(cls, path: str | None) -> str | None:
        parse(path or "")
        return path

    @model_validator(mode="after")
    def _has_document_for_time(self) -> Self:
        if self.time_path is not None and not (self.path and self.time_path):
            msg = "time_path needs a path: both stand in the same JSON message"
            raise ValueError(msg)
        return self
