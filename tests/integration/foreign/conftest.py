"""Fixtures: the tools; and how ctest learns that there was none."""
import shutil

import pytest

import tools


@pytest.fixture(scope="session")
def node():
    return tools.node()


@pytest.fixture(scope="session")
def go():
    if not shutil.which("go"):
        tools.missing("Go")
    return shutil.which("go")


def pytest_sessionfinish(session):
    tools.tell_ctest(session)
