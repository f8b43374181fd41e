"""What every test shares: the event loop is asyncio's, and no example is judged by its speed."""

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("protocols.testing.rig", "protocols.testing.suite")
settings.register_profile("spine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("spine")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
