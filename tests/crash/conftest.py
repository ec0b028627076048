"""The same installations as the end-to-end tests have."""

from tests.e2e.conftest import checkout, install, pytest_runtest_makereport

__all__ = ["checkout", "install", "pytest_runtest_makereport"]
