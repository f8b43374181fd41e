"""The registry contract with a real Apicurio, killed and emptied."""

import asyncio
from dataclasses import dataclass

import pytest

from deploy.central.native.launcher import Launcher
from tests.contract.registry_rig import RegistryRig
from tests.contract.registry_suite import RegistryContract, client, release
from tests.servers.stack import RunningStack

pytest_plugins = ["tests.servers.stack_fixtures"]
pytestmark = pytest.mark.integration
__all__ = ["client", "release"]


@dataclass
class Apicurio(RegistryRig):
    """The stack's registry; `down` is kill -9."""

    launcher: Launcher
    url: str

    async def down(self) -> None:
        if "registry" in self.launcher.names():
            await asyncio.to_thread(self.launcher.kill, "registry")

    async def up(self) -> None:
        if "registry" not in self.launcher.names():
            await asyncio.to_thread(self.launcher.start, "registry")

    async def wipe(self) -> None:
        await asyncio.to_thread(self.launcher.wipe, "registry")


class TestApicurio(RegistryContract):
    @pytest.fixture
    def rig(self, registry_stack: RunningStack) -> Apicurio:
        return Apicurio(registry_stack.launcher, registry_stack.env["SPINE_REGISTRY"])
