"""Secured channels and sign-in: what is asked of asyncua, and what of the server's is accepted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies

from protocols.opcua.faults import LIBRARY_FAULTS, explain, sign_in_names
from protocols.opcua.options import OpcuaDevice
from protocols.opcua.trust import Identity, Presented, Untrusted, load_identity, load_presented
from shared.errors import OptionsWrong, Refused

_POLICIES: Final[dict[str, Any]] = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
_MODES: Final = {
    "Sign": ua.MessageSecurityMode.Sign,
    "SignAndEncrypt": ua.MessageSecurityMode.SignAndEncrypt,
}
_PLAIN: Final = "None"


async def drop(client: Client) -> None:
    """Cut a connection; what the peer does not read does not hold it open."""
    protocol = client.uaclient.protocol
    if protocol is not None and protocol.transport is not None:
        if protocol.transport.get_write_buffer_size():
            protocol.transport.abort()
        else:
            protocol.transport.close()
        await asyncio.sleep(0)  # lets the transport close its socket


@asynccontextmanager
async def plain_channel(url: str, timeout_s: float) -> AsyncIterator[Client]:
    """Open a channel without security, for questions that every server answers on one."""
    client = Client(url, timeout=timeout_s)
    try:
        await client.connect_socket()
        await client.send_hello()
        await client.open_secure_channel()
        yield client
    finally:
        await drop(client)


def policy_name(uri: str | None) -> str:
    """Take the name of a security policy out of its URI."""
    return (uri or _PLAIN).rpartition("#")[2]


def is_ours(endpoint: ua.EndpointDescription) -> bool:
    """Tell whether an endpoint speaks the protocol that we do, and not HTTPS."""
    return (endpoint.EndpointUrl or "").startswith("opc.tcp://")


async def secure(client: Client, options: OpcuaDevice, identity: Identity) -> None:
    """Prepare a client for a secured channel with the server whose certificate is trusted.

    Raises `Refused` where the server has no such endpoint or presents another certificate than
    those that were accepted, `Untrusted` (`OptionsWrong`) where none was accepted yet.
    """
    try:
        async with plain_channel(options.url, options.timeout_s) as plain:
            told = await plain.get_endpoints()
    except LIBRARY_FAULTS as error:
        raise explain(error, options, None) from error
    endpoints = [one for one in told if is_ours(one)]
    presented = _presented(endpoints, options)
    if not options.pins:
        raise Untrusted(options.url, presented)
    if presented.thumbprint not in options.pins:
        msg = (
            f"{options.url}: the server presents another certificate than the accepted one: "
            f"{presented}. If it was replaced there, set server_certificate to the new thumbprint; "
            "else somebody stands between"
        )
        raise Refused(msg)
    policy = _POLICIES[options.security](
        presented.certificate, identity.certificate, identity.key, _MODES[options.security_mode]
    )
    client.security_policy = policy
    client.uaclient.set_security(policy)


def _presented(endpoints: list[ua.EndpointDescription], options: OpcuaDevice) -> Presented:
    wanted = (options.security, _MODES[options.security_mode])
    fitting = [
        one for one in endpoints if (policy_name(one.SecurityPolicyUri), one.SecurityMode) == wanted
    ]
    if not fitting:
        offers = {
            f"{policy_name(one.SecurityPolicyUri)}, {one.SecurityMode.name.rstrip('_')}"
            for one in endpoints
        }
        msg = (
            f"{options.url}: the server offers no {options.security}, {options.security_mode}; "
            f"it offers {'; '.join(sorted(offers)) or 'nothing'}"
        )
        raise Refused(msg)
    presented = load_presented(fitting[0].ServerCertificate or b"")
    if presented is None:
        msg = f"{options.url}: the server presents a certificate that cannot be read"
        raise Refused(msg)
    return presented


async def sign_in(client: Client, options: OpcuaDevice, session: ua.CreateSessionResult) -> None:
    """Activate a session as the options say: with nobody, a user name or a user's certificate."""
    kind = _sign_in_kind(options)
    offered = _tokens(client, session)
    if kind not in {one.TokenType for one in offered}:
        msg = (
            f"{options.url}: on this endpoint the server does not take "
            f"{sign_in_names([kind])}; it takes {sign_in_names(one.TokenType for one in offered)}"
        )
        raise Refused(msg)
    if options.user_identity is not None:
        user = load_identity(options.user_identity.get_secret_value(), "user_identity")
        client.user_private_key = user.key
        await client.activate_session(certificate=user.certificate)
    elif options.user is not None:
        _keep_secret(client, options)
        password = options.password.get_secret_value() if options.password is not None else ""
        await client.activate_session(username=options.user, password=password)
    else:
        await client.activate_session()


def _keep_secret(client: Client, options: OpcuaDevice) -> None:
    """Refuse to show a password to everybody on the network."""
    how = policy_name(client.server_policy(ua.UserTokenType.UserName).SecurityPolicyUri)
    is_encrypted = client.security_policy.Mode == ua.MessageSecurityMode.SignAndEncrypt
    if how == _PLAIN and not is_encrypted:
        msg = (
            f"{options.url}: this server takes the password in clear text; "
            "set security_mode to SignAndEncrypt"
        )
        raise OptionsWrong(msg)


def _sign_in_kind(options: OpcuaDevice) -> ua.UserTokenType:
    if options.user_identity is not None:
        return ua.UserTokenType.Certificate
    return ua.UserTokenType.UserName if options.user is not None else ua.UserTokenType.Anonymous


def _tokens(client: Client, session: ua.CreateSessionResult) -> list[ua.UserTokenPolicy]:
    policy = client.security_policy
    endpoint = Client.find_endpoint(session.ServerEndpoints, policy.Mode, policy.URI)
    return list(endpoint.UserIdentityTokens or [])
