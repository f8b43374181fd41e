"""The ids a schema registry gives our schemas, and what is done while it is away.

Files remain the source of the schemas; they are registered in order at the start, each under the
full name of its record (`spine.ReadingBatch`), and looked after as long as the process lives.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from central.messaging.compatibility import problems_reading
from central.messaging.registry import (
    FileRegistry,
    RegistryAway,
    Schema,
    SchemaIds,
    SchemaRefused,
)
from central.messaging.registry_client import RegistryClient
from shared import logs
from shared.backoff import Backoff

CONFIRM_S: Final = 15.0
_log = logs.get("registry")


@contextlib.asynccontextmanager
async def open_registry(
    url: str | None, files: FileRegistry | None = None, confirm_s: float = CONFIRM_S
) -> AsyncIterator[SchemaIds]:
    """Give the ids of our schemas: from the registry at `url`, or from their content without one.

    Raises `SchemaRefused` where the registry and our schemas do not fit together, at once or (if it
    was away at the start) as soon as it answers: the block within is then cancelled and ends with
    that error. Raises `SettingsError` for a URL that cannot be.
    """
    files = files or FileRegistry.load()
    if not url:
        yield files
        return
    async with RegistryClient(url) as client:
        registry = SchemaRegistry(files, client, confirm_s)
        await registry.turn()
        try:
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(registry.run(), name="registry")
                yield registry
                keeping.cancel()
        except BaseExceptionGroup as errors:
            error = _first(errors)
            raise error from error.__cause__


class SchemaRegistry:
    """Schemas from files under the ids of a registry; keeps the contract `SchemaIds`.

    What an id has once meant is remembered as long as the process lives. A registry that lost its
    data gives ids anew: they are taken over within `confirm_s`, and an id that means something else
    now has several meanings, of which the bytes of a record must fit exactly one.
    """

    def __init__(
        self, files: FileRegistry, client: RegistryClient, confirm_s: float = CONFIRM_S
    ) -> None:
        self._files = files
        self._client = client
        self._confirm_s = confirm_s
        self._ids: dict[Schema, int] = {}
        self._meanings: dict[int, tuple[Schema, ...]] = {}
        self._trouble = ""
        self._was_registered = False
        self._backoff = Backoff(base_s=0.25, cap_s=5.0)
        self._asking = asyncio.Lock()

    def newest(self, name: str) -> Schema:
        """Give the version that is written now."""
        return self._files.newest(name)

    def id_of(self, schema: Schema) -> int:
        """Tell the registry's id of a schema; raises `RegistryAway` until it is known."""
        found = self._ids.get(schema)
        if found is None:
            raise RegistryAway(f"the registry's id of {schema.subject} is not known yet")
        return found

    def meanings(self, schema_id: int) -> Sequence[Schema]:
        """Tell what the registry said of an id, and which file's content makes it."""
        found = self._meanings.get(schema_id, ())
        of_file = self._files.by_id(schema_id)
        return found if of_file is None else _with(found, of_file)

    async def learn(self, schema_id: int) -> None:
        """Ask the registry what an id means, also where it has a meaning already."""
        async with self._asking:
            text = await self._client.text_of_id(schema_id)
            schema = None if text is None else self._recognise(schema_id, text)
            if schema is not None:
                self._remember(schema_id, schema)

    async def check(self) -> str:
        """Tell whether records can be written, and whether the registry answers."""
        if not self._ids:
            raise RegistryAway(self._trouble or "not asked yet")
        if self._trouble:
            return f"away, its ids are known: {self._trouble}"
        return f"answers, {len(self._ids)} schemas are registered"

    async def run(self) -> None:
        """Register our schemas as soon as that can be done, then look whether they still are.

        Ends with `SchemaRefused` only if the schemas were never registered: later it is told by the
        log and by `check`, and nothing is written until the registry fits again.
        """
        while True:
            await asyncio.sleep(self._backoff.next_s() if self._trouble else self._confirm_s)
            await self.turn()

    async def turn(self) -> None:
        """Do that once; a registry that is away is noted."""
        try:
            if not self._ids or not await self._is_registered():
                await self._register()
        except RegistryAway as error:
            self._note(str(error))
        except SchemaRefused as error:
            if not self._was_registered:
                raise
            self._ids = {}
            self._note(str(error))
        else:
            self._note("")

    async def _is_registered(self) -> bool:
        for schema, schema_id in self._ids.items():
            text = await self._client.text_of_id(schema_id)
            if text is None or not _is_same(schema, text):
                return False
        return True

    async def _register(self) -> None:
        ids: dict[Schema, int] = {}
        for versions in self._files.all_versions().values():
            subject = versions[-1].subject
            await self._check_theirs(subject, versions)
            await self._client.keep_compatible(subject)
            for schema in versions:
                ids[schema] = await self._client.register(subject, schema.text)
        self._adopt(ids)

    async def _check_theirs(self, subject: str, ours: Sequence[Schema]) -> None:
        """Refuse versions in the registry that are not among ours and that ours cannot read."""
        for version in await self._client.versions(subject):
            place = f"version {version} of {subject} in the registry at {self._client.place}"
            text = await self._client.text_of(subject, version)
            try:
                theirs = Schema.parse(ours[-1].name, version, text)
            except SchemaRefused as error:
                raise SchemaRefused(f"{place} is not an Avro schema: {error}") from error
            if all(theirs.id != schema.id for schema in ours):
                _check_readable(ours[-1], theirs, place)

    def _recognise(self, schema_id: int, text: str) -> Schema | None:
        """Match a text to a file, or to a newer version of one; None if it is none of ours."""
        try:
            theirs = Schema.parse("", 0, text)
        except SchemaRefused:
            return None
        for versions in self._files.all_versions().values():
            for ours in versions:
                if ours.id == theirs.id:
                    return ours
            if versions[-1].subject == theirs.subject:
                newest = versions[-1]
                place = f"schema {schema_id} ({newest.subject}) in the registry"
                _check_readable(newest, theirs, place)
                return Schema(newest.name, 0, theirs.id, text, theirs.coding)
        return None

    def _adopt(self, ids: dict[Schema, int]) -> None:
        if self._ids:
            is_new = any(self._ids.get(schema) != schema_id for schema, schema_id in ids.items())
            place = self._client.place
            _log.warning(
                "the registry had lost schemas, they are back", place=place, new_ids=is_new
            )
        for schema, schema_id in ids.items():
            self._remember(schema_id, schema)
        self._ids = ids
        self._was_registered = True

    def _remember(self, schema_id: int, schema: Schema) -> None:
        self._meanings[schema_id] = _with(self._meanings.get(schema_id, ()), schema)

    def _note(self, trouble: str) -> None:
        """Log an outage once, and its end once."""
        if trouble and not self._trouble:
            _log.warning("the schema registry is away", problem=trouble, can_write=bool(self._ids))
        if not trouble and self._trouble:
            _log.info("the schema registry is back", place=self._client.place)
        if not trouble:
            self._backoff.reset()
        self._trouble = trouble


def _check_readable(ours: Schema, theirs: Schema, place: str) -> None:
    problems = problems_reading(ours.coding, theirs.coding)
    if problems:
        raise SchemaRefused(
            f"{place} cannot be read by {ours.name}.{ours.version}.avsc: {'; '.join(problems)}. "
            "Run a release that has this version, or point SPINE_REGISTRY at a registry of its own."
        )


def _is_same(schema: Schema, text: str) -> bool:
    try:
        return Schema.parse(schema.name, schema.version, text).id == schema.id
    except SchemaRefused:
        return False


def _with(found: tuple[Schema, ...], schema: Schema) -> tuple[Schema, ...]:
    """Add a meaning unless it is there: schemas of one content write the same bytes."""
    return found if any(one.id == schema.id for one in found) else (schema, *found)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    refused = errors.subgroup(SchemaRefused)
    return (refused or errors).exceptions[0]
