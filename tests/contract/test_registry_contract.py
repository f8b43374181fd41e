"""Ids of schemas keep their contract: from files, and from a small registry in this process."""

from collections.abc import AsyncIterator

import pytest

from central.messaging.registry_client import COMPATIBILITY
from tests.contract.registry_rig import Release, SmallRegistry
from tests.contract.registry_suite import (
    OFTEN_S,
    RegistryContract,
    SchemaIdsContract,
    client,
    opened,
    release,
    until,
)

__all__ = ["client", "release"]


class TestFiles(SchemaIdsContract):
    @pytest.fixture
    def rig(self) -> None:
        return None


class TestSmallRegistry(RegistryContract):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[SmallRegistry]:
        small = SmallRegistry()
        await small.up()
        yield small
        await small.down()

    async def test_subjects_are_kept_readable_for_ever(
        self, rig: SmallRegistry, release: Release
    ) -> None:
        rig.levels[release.subject] = "FULL_TRANSITIVE"
        async with opened(rig, release):
            levels = dict(rig.levels)

        assert levels.pop(release.subject) == "FULL_TRANSITIVE"
        assert set(levels.values()) == {COMPATIBILITY}
        assert len(levels) == 3

    async def test_looking_after_the_ids_costs_one_question_a_schema(
        self, rig: SmallRegistry, release: Release
    ) -> None:
        async with opened(rig, release, OFTEN_S):
            rig.asked.clear()

            async def asked_twice() -> bool:
                return len(rig.asked) >= 6

            await until(asked_twice)

        assert {path.rpartition("/")[0] for path in rig.asked} == {"GET /api/schemas/ids"}
        assert len(set(rig.asked)) == 4
