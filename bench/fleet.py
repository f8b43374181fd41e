"""What stages send: gateways with certificates, and batches of real encoder input as frames."""

import itertools
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from bench.gateways import masked
from bench.inputs import Input
from central import admin
from central.ingress.authority import Authority, spki_sha256
from central.settings import Settings
from central.storage.catalogue import (
    Gateway,
    create_gateway,
    find_project,
    list_sites,
    register_certificate,
)
from central.storage.database import Pool, open_pool
from shared import pki
from shared.batch import encode
from shared.columns import Columns
from shared.link import Batch, pack
from shared.model import Kind, Point, PointSet


@dataclass(slots=True)
class Load:
    """Readings of one gateway, one batch after another: an input over and over, ever later."""

    given: Input
    made: int = field(default=0)

    def next(self, size: int | None = None) -> Columns:
        """Give the next batch, or the first `size` readings of it."""
        turn, at = divmod(self.made, len(self.given.batches))
        self.made += 1
        batch, last = self.given.batches[at], self.given.batches[-1]
        span_us = int(last.observed_at.max() - self.given.batches[0].observed_at.min())
        part = slice(size)
        return Columns(
            batch.series[part],
            batch.observed_at[part] + turn * (span_us + 1_000_000),
            batch.value[part],
            batch.quality[part],
        )


@dataclass(slots=True)
class Sender:
    """A gateway of the bench: how it connects, and what it has to say."""

    gateway: Gateway
    tls: ssl.SSLContext
    load: Load
    epochs: Iterator[int] = field(default_factory=lambda: itertools.count(time.time_ns()))

    @property
    def points(self) -> PointSet:
        """The points its series stand for: its own, whatever other gateways have."""
        return PointSet(tuple(Point(f"{self.gateway.name}/{key}") for key in self.load.given.keys))

    def frames(self, count: int, size: int | None = None) -> tuple[list[bytes], int]:
        """Make masked frames of the next so many batches, in an epoch of their own.

        Gives them and the number of their readings.
        """
        digest, epoch = self.points.hash, next(self.epochs)
        frames, readings = [], 0
        for seq in range(count):
            columns = self.load.next(size)
            batch = Batch(
                epoch=epoch,
                seq=seq,
                kind=Kind.READINGS,
                count=len(columns),
                point_set=digest,
                body=encode(columns),
            )
            frames.append(masked(pack(batch)))
            readings += len(columns)
        return frames, readings


async def senders(settings: Settings, project: str, given: Sequence[Input]) -> list[Sender]:
    """Make a project and a gateway for each input in it, with certificates central knows."""
    await admin.setup(settings, project, "main")
    authority = Authority.open(settings.data)
    assert settings.dsn is not None
    async with open_pool(settings.dsn.get_secret_value(), size=1) as pool:
        found = await find_project(pool, project)
        assert found is not None
        (site,) = await list_sites(pool, found.project_id)
        gateways = [
            await create_gateway(pool, found.project_id, site.site_id, f"gateway{number}")
            for number in range(len(given))
        ]
        return [
            Sender(gateway, await _enrol(pool, authority, settings.data, gateway), Load(one))
            for gateway, one in zip(gateways, given, strict=True)
        ]


async def _enrol(
    pool: Pool, authority: Authority, folder: Path, gateway: Gateway
) -> ssl.SSLContext:
    """Issue a certificate as enrolment does, without its door."""
    key, csr = pki.make_key_and_csr()
    issued = pki.issue_gateway(authority.root, csr, gateway.project, gateway.name)
    certificate = x509.load_pem_x509_certificate(issued)
    await register_certificate(
        pool,
        gateway.gateway_id,
        pki.fingerprint(issued),
        spki_sha256(certificate),
        certificate.not_valid_after_utc,
    )
    paths = folder / f"{gateway.name}.pem", folder / f"{gateway.name}.key"
    pki.write_private(paths[0], issued)
    pki.write_private(paths[1], key)
    return pki.client_context(authority.roots_pem, *paths)


def repeated(given: Sequence[Input], count: int) -> list[Input]:
    """Give so many inputs, in turns."""
    return list(itertools.islice(itertools.cycle(given), count))
