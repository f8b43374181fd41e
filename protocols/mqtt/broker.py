"""How a broker is reached: its address, the login, and who it must be."""

import re
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

PORT: Final = 1883
TLS_PORT: Final = 8883
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"


class MqttBroker(BaseModel):
    """A broker, and how we get in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(min_length=1, max_length=255, description="Name or address of the broker.")
    port: int = Field(default=PORT, ge=1, le=65_535, description="Its port; 8883 with tls.")
    username: str | None = Field(default=None, description="User name, if the broker wants one.")
    password: SecretStr | None = Field(default=None, description="Password of the user.")
    tls: bool = Field(default=False, description="Whether the connection is encrypted.")
    tls_ca: str | None = Field(
        default=None,
        max_length=262_144,
        description="The broker's certificate authority, as PEM text; those of the machine if left "
        "out.",
    )
    tls_fingerprint: str | None = Field(
        default=None,
        description="SHA-256 of the broker's own certificate, in hex: then no other one is taken, "
        "whoever signed it and whatever names it bears.",
    )
    tls_server_name: str | None = Field(
        default=None,
        max_length=255,
        description="The name that the broker's certificate must bear, if not that of host.",
    )
    tls_certificate: str | None = Field(
        default=None,
        max_length=262_144,
        description="Our own certificate, as PEM text, if the broker wants one.",
    )
    tls_key: SecretStr | None = Field(
        default=None, description="The private key of tls_certificate, as PEM text, not encrypted."
    )
    keepalive_s: int = Field(
        default=30, ge=1, le=3_600, description="Both sides notice a dead link within twice this."
    )
    version: Literal["3.1.1", "5"] = Field(
        default="3.1.1",
        description="MQTT version; 5 falls back to 3.1.1 where the broker does not speak it.",
    )
    timeout_s: float = Field(
        default=5.0, gt=0, le=60, description="How long to wait for each answer, in seconds."
    )

    @model_validator(mode="before")
    @classmethod
    def _tls_has_its_port(cls, fields: object) -> object:
        if isinstance(fields, dict) and fields.get("tls") and fields.get("port") is None:
            return {**fields, "port": TLS_PORT}
        return fields

    @field_validator("tls_fingerprint")
    @classmethod
    def _is_fingerprint(cls, text: str | None) -> str | None:
        if text is None:
            return None
        plain = text.replace(":", "").replace(" ", "").lower()
        if not _FINGERPRINT.fullmatch(plain):
            msg = "must be a SHA-256: 64 hex digits, with or without colons"
            raise ValueError(msg)
        return plain

    @field_validator("tls_ca", "tls_certificate")
    @classmethod
    def _is_certificate(cls, text: str | None) -> str | None:
        if text is not None and _CERTIFICATE not in text:
            msg = f"must be a certificate as PEM text, which begins with {_CERTIFICATE}"
            raise ValueError(msg)
        return text

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problem = _misfit(self)
        if problem:
            raise ValueError(problem)
        return self

    @property
    def address(self) -> str:
        """Say where the broker is, as HOST:PORT."""
        return f"{self.host}:{self.port}"


def _misfit(broker: MqttBroker) -> str | None:
    if broker.password is not None and broker.username is None:
        return "a password needs a username"
    if (broker.tls_certificate is None) != (broker.tls_key is None):
        return "tls_certificate and tls_key come together"
    given = [name for name in type(broker).model_fields if name.startswith("tls_")]
    if not broker.tls and any(getattr(broker, name) is not None for name in given):
        return "set tls: true; without it the connection is in clear text"
    if broker.tls_fingerprint and (broker.tls_ca or broker.tls_server_name):
        return "tls_fingerprint names the one certificate: leave out tls_ca and tls_server_name"
    return None
