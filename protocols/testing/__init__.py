"""The driver contract as tests, for every driver: ours, and those of other packages."""

import pytest

pytest.register_assert_rewrite("protocols.testing.rig", "protocols.testing.suite")
