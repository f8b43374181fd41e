"""What every test shares: the event loop is asyncio's."""

import pytest

pytest.register_assert_rewrite("tests.contract.driver_rig", "tests.contract.driver_suite")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
