"""What an installer sets for an OPC UA server and for each of its points."""

from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from protocols.opcua.addresses import AddressWrong, parse_address
from protocols.opcua.trust import ThumbprintWrong, thumbprints_in

DEFAULT_PORT: Final = 4840  # registered for opc.tcp with IANA

Security = Literal["None", "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"]
SecurityMode = Literal["SignAndEncrypt", "Sign"]
Mode = Literal["auto", "subscribe", "poll"]


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
    mode: Mode = Field(
        default="auto",
        description="subscribe: the server pushes; poll: everything is read every interval_s of "
        "the device; auto: the server pushes, and what it does not push is read.",
    )
    poll_interval_s: float = Field(
        default=10.0,
        ge=0.1,
        le=3_600,
        description="In mode auto: how often points are read that the server does not push, in "
        "seconds.",
    )
    security: Security = Field(
        default="None", description="Security policy; all but None sign and need an identity."
    )
    security_mode: SecurityMode = Field(
        default="SignAndEncrypt", description="Whether messages are encrypted or only signed."
    )
    server_certificate: str = Field(
        default="",
        max_length=1_000,
        description="SHA-256 thumbprint of the server's certificate, as you found it right; "
        "several, separated by commas, while it is replaced. Nothing else is trusted.",
    )
    identity: SecretStr | None = Field(
        default=None,
        description="The gateway's application certificate and its RSA key, as PEM; "
        "`spine-edge opcua certificate` makes one for all servers.",
    )
    user: str | None = Field(
        default=None, min_length=1, max_length=500, description="User name; needs security."
    )
    password: SecretStr | None = Field(default=None, description="Password of the user.")
    user_identity: SecretStr | None = Field(
        default=None,
        description="Certificate and RSA key of the user as PEM, instead of user and password.",
    )

    @property
    def is_secured(self) -> bool:
        """Tell whether messages are signed."""
        return self.security != "None"

    @property
    def pins(self) -> frozenset[str]:
        """The thumbprints of the server certificates that are trusted."""
        return thumbprints_in(self.server_certificate)

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        problem = _conflict(self)
        if problem:
            raise ValueError(problem)
        return self

    @field_validator("server_certificate")
    @classmethod
    def _thumbprints(cls, text: str) -> str:
        try:
            thumbprints_in(text)
        except ThumbprintWrong as error:
            raise ValueError(str(error)) from error
        return text

    @field_validator("url")
    @classmethod
    def _reachable(cls, url: str) -> str:
        return whole_url(url)


class OpcuaPoint(BaseModel):
    """Which node a point is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: str | None = Field(
        default=None,
        min_length=1,
        max_length=4_096,
        description="The node's id, as nsu=urn:plant:ahu;s=AHU1.SupplyTemp, ns=2;s=AHU1.SupplyTemp "
        "or ns=3;i=1042; nsu= stays right when the server numbers its namespaces anew.",
    )
    path: str | None = Field(
        default=None,
        min_length=2,
        max_length=4_096,
        description="The way to the node by browse names, as /Objects/Building/Room1/Temp; taken "
        "where there is no node, or where the server does not know its id any more.",
    )
    index: str | None = Field(
        default=None,
        max_length=64,
        pattern=r"^\d{1,9}(,\d{1,9})*$",
        description="Which element of an array, counted from 0: 3, or 1,4 of a matrix.",
    )

    @model_validator(mode="after")
    def _addressed(self) -> Self:
        try:
            parse_address(self.node, self.path, self.index)
        except AddressWrong as error:
            raise ValueError(str(error)) from error
        return self


def _conflict(device: OpcuaDevice) -> str:
    """Tell what of the options does not go together, or nothing."""
    has_user = device.user is not None
    if not device.is_secured and (has_user or device.password or device.user_identity):
        return "user, password and user_identity would travel unprotected: set security"
    if device.password is not None and not has_user:
        return "password needs user"
    if has_user and device.user_identity is not None:
        return "user and user_identity exclude each other"
    if device.is_secured and device.identity is None:
        return (
            "security needs identity: `spine-edge opcua certificate` makes one, "
            "kept under a name that every server's options may use"
        )
    if device.poll_interval_s >= device.session_timeout_s:
        return "poll_interval_s must be shorter than session_timeout_s"
    return ""


def whole_url(url: str) -> str:
    """Check an address and give it its port; raises `ValueError`."""
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
