"""Who may come in: sessions, one-time links and passwords. There is no default password.

Sessions and links live in memory alone: a restart ends them all. Of tokens only digests are kept,
of passwords only their argon2id hashes, in the configuration database.
"""

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from edge.api.problems import ApiProblem
from edge.config_store import ConfigStore
from shared.clock import Clock

IDLE_S: Final = 3_600.0
"""A session that nobody used for so long is over."""

LONGEST_S: Final = 12 * 3_600.0
"""Every session is over after this time."""

LINK_S: Final = 900.0
MOST_SESSIONS: Final = 32
MOST_LINKS: Final = 8
FREE_TRIES: Final = 5
"""Wrong passwords of one caller before it has to wait."""

LONGEST_WAIT_S: Final = 900.0
MOST_CALLERS: Final = 256
TOKEN_LENGTH: Final = 43
FACT: Final = "api_passwords"

_HASH: Final = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=19_456, parallelism=1),))
"""OWASP's least for argon2id: 19 MiB, for a gateway has little memory."""


class Role(StrEnum):
    """What a session may do: a viewer looks, a technician changes."""

    VIEWER = "viewer"
    TECHNICIAN = "technician"


@dataclass(slots=True)
class Session:
    """One who is signed in; `number` names it to people, its token to nobody."""

    number: int
    role: Role
    peer: str
    agent: str
    began_us: int
    began_s: float
    used_s: float
    is_ended: bool = False

    def is_over(self, now_s: float) -> bool:
        """Tell whether it ended, by itself or by somebody."""
        too_long = now_s - self.used_s >= IDLE_S or now_s - self.began_s >= LONGEST_S
        return self.is_ended or too_long


@dataclass(slots=True)
class _Tries:
    wrong: int = 0
    until_s: float = 0.0


@dataclass(slots=True)
class Door:
    """The door of the local API."""

    store: ConfigStore
    clock: Clock
    _sessions: dict[bytes, Session] = field(default_factory=dict)
    _links: dict[bytes, tuple[Role, float]] = field(default_factory=dict)
    _tries: OrderedDict[str, _Tries] = field(default_factory=OrderedDict)
    _numbers: int = 0
    _hashing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def link(self, role: Role = Role.TECHNICIAN) -> str:
        """Make the token of a one-time link; the oldest gives way where there are many."""
        now_s = self.clock.monotonic_s()
        self._links = {key: one for key, one in self._links.items() if one[1] > now_s}
        while len(self._links) >= MOST_LINKS:
            del self._links[next(iter(self._links))]
        token = secrets.token_urlsafe(32)
        self._links[_digest(token)] = (role, now_s + LINK_S)
        return token

    def enter_by_link(self, token: str, peer: str, agent: str) -> tuple[str, Session]:
        """Use a link up; gives the session and its token. Raises `ApiProblem`."""
        found = self._links.pop(_digest(token), None)
        if found is None or found[1] <= self.clock.monotonic_s():
            raise ApiProblem(
                "login_refused",
                "The link was used or is older than 15 minutes: get a new one with"
                " `spine-edge api link` on the gateway.",
            )
        return self._begin(found[0], peer, agent)

    async def enter_by_password(
        self, role: Role, password: str, peer: str, agent: str
    ) -> tuple[str, Session]:
        """Sign in with the password of a role. Raises `ApiProblem`, slower with every wrong one."""
        tries = self._tries_of(peer)
        async with self._hashing:
            # Looked at inside the lock: those who wait here cannot all try before it grows.
            self._refuse_hasty(tries)
            if await asyncio.to_thread(self._is_right, role, password):
                self._tries.pop(peer, None)
                return self._begin(role, peer, agent)
            tries.wrong += 1
            pause_s = min(LONGEST_WAIT_S, 2.0 ** (tries.wrong - FREE_TRIES))
            if tries.wrong >= FREE_TRIES:
                tries.until_s = self.clock.monotonic_s() + pause_s
        raise ApiProblem("login_refused", f"This is not the password of the {role.value}.")

    def find(self, token: str) -> Session | None:
        """Find a session that is not over, and take note that it was used."""
        if len(token) != TOKEN_LENGTH:
            return None
        session = self._sessions.get(_digest(token))
        now_s = self.clock.monotonic_s()
        if session is None or session.is_over(now_s):
            return None
        session.used_s = now_s
        return session

    def sessions(self) -> list[Session]:
        """List the sessions that are not over, oldest first."""
        now_s = self.clock.monotonic_s()
        self._sessions = {key: one for key, one in self._sessions.items() if not one.is_over(now_s)}
        return sorted(self._sessions.values(), key=lambda one: one.number)

    def end(self, number: int) -> bool:
        """End a session; tells whether there was one of this number."""
        found = [one for one in self.sessions() if one.number == number]
        for one in found:
            one.is_ended = True
        return bool(found)

    async def set_password(self, role: Role, password: str | None) -> None:
        """Set the password of a role, None for none; sessions of the role end."""
        async with self._hashing:
            hashed = None
            if password is not None:
                hashed = await asyncio.to_thread(_HASH.hash, password)
            await asyncio.to_thread(self._keep, role, hashed)
        for one in self.sessions():
            one.is_ended = one.is_ended or one.role is role

    async def roles_with_password(self) -> list[Role]:
        """List the roles that can sign in with a password."""
        return [Role(name) for name in sorted(await asyncio.to_thread(self._hashes))]

    def _begin(self, role: Role, peer: str, agent: str) -> tuple[str, Session]:
        if len(self.sessions()) >= MOST_SESSIONS:
            raise ApiProblem("too_many", f"{MOST_SESSIONS} sessions are open: end one of them.")
        self._numbers += 1
        now_s, now_us = self.clock.monotonic_s(), self.clock.now_us()
        session = Session(self._numbers, role, peer, agent[:200], now_us, now_s, now_s)
        token = secrets.token_urlsafe(32)
        self._sessions[_digest(token)] = session
        return token, session

    def _tries_of(self, peer: str) -> _Tries:
        tries = self._tries.setdefault(peer, _Tries())
        self._tries.move_to_end(peer)
        while len(self._tries) > MOST_CALLERS:
            self._tries.popitem(last=False)
        return tries

    def _refuse_hasty(self, tries: _Tries) -> None:
        wait_s = tries.until_s - self.clock.monotonic_s()
        if wait_s > 0:
            raise ApiProblem(
                "too_many_tries",
                f"{tries.wrong} wrong passwords: wait, or use a link of `spine-edge api link`.",
                headers={"Retry-After": str(int(wait_s) + 1)},
            )

    def _is_right(self, role: Role, password: str) -> bool:
        hashed = self._hashes().get(role.value)
        # A role without a password takes as long as one with: nobody learns which has one.
        return _HASH.verify(password, hashed or _NONE) and hashed is not None

    def _hashes(self) -> dict[str, str]:
        return dict(self.store.fact(FACT) or {})

    def _keep(self, role: Role, hashed: str | None) -> None:
        hashes = {name: one for name, one in self._hashes().items() if name != role.value}
        if hashed is not None:
            hashes[role.value] = hashed
        self.store.note({FACT: hashes})


_NONE: Final = (
    "$argon2id$v=19$m=19456,t=2,p=1$b2Ygbm9ib2R5IGF0IGFsbA$"
    "3q2+796tvu/erb7v3q2+796tvu/erb7v3q2+796tvu8"
)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
