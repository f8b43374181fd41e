"""Who may do what on the brokers of a staging stack.

`admin` and the brokers may do everything; `spine-service`, which central is, may do what it needs
with topics whose names begin with `spine.`; nobody else, whatever certificate they show, anything.
"""

import ssl
from typing import Final

from deploy.central.native.certificates import ORGANISATION, identity_path, root_path
from deploy.central.native.service import HOST, Stack, StackFailed

ADMIN: Final = "admin"
BROKER: Final = "broker"
SERVICE: Final = "spine-service"
PREFIX: Final = "spine."
_TIMEOUT_MS: Final = 30_000


def settings(stack: Stack) -> dict[str, object]:
    """Give the broker's settings: TLS with client certificates, rights by their names."""
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": identity_path(stack, BROKER),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": root_path(stack),
        "ssl.client.auth": "required",
        "ssl.enabled.protocols": "TLSv1.3",
        "ssl.principal.mapping.rules": f"RULE:^CN=([a-z0-9-]+),O={ORGANISATION}$/$1/,DEFAULT",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": f"User:{ADMIN};User:{BROKER}",
    }


def context(stack: Stack, name: str = ADMIN) -> ssl.SSLContext:
    """Make the TLS context of a client with the identity of that name."""
    made = ssl.create_default_context(cafile=str(root_path(stack)))
    made.load_cert_chain(identity_path(stack, name))
    return made


def grant(stack: Stack, port: int) -> None:
    """Give the service its rights; changes nothing where it has them."""
    # Only staging needs this library, and Python of the machine alone can run the rest.
    from kafka.admin import (  # noqa: PLC0415 - see above
        ACL,
        ACLOperation,
        ACLPermissionType,
        ACLResourcePatternType,
        KafkaAdminClient,
        ResourcePattern,
        ResourceType,
    )
    from kafka.errors import KafkaError  # noqa: PLC0415 - see above

    topics = ResourcePattern(ResourceType.TOPIC, PREFIX, ACLResourcePatternType.PREFIXED)
    operations = ("CREATE", "DESCRIBE", "READ", "WRITE", "DELETE")
    wanted = [
        ACL(f"User:{SERVICE}", "*", ACLOperation[one], ACLPermissionType.ALLOW, topics)
        for one in operations
    ]
    try:
        client = KafkaAdminClient(
            bootstrap_servers=f"{HOST}:{port}",
            security_protocol="SSL",
            ssl_context=context(stack),
            request_timeout_ms=_TIMEOUT_MS,
        )
        try:
            failed = client.create_acls(wanted)["failed"]
        finally:
            client.close()
    except KafkaError as error:
        raise StackFailed(f"the brokers take no rights for {SERVICE}: {error}") from error
    if failed:
        raise StackFailed(f"the brokers refuse rights for {SERVICE}: {failed}")
