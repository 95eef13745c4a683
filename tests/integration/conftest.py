"""Fixtures: the generated stubs, a tiny model, and one server that most tests share."""
import os

import pytest

import harness
from fixtures import model, pb  # noqa: F401  pylint: disable=unused-import


@pytest.fixture(scope="session")
def server(model):
    with harness.Server(model) as running:
        yield running


@pytest.fixture(scope="session")
def stub(pb, server):
    return pb.Stub(server.channel)


def pytest_configure(config):
    config.addinivalue_line("markers", "foreign: needs clients and tools of other people")


def pytest_collection_modifyitems(items):
    if not os.path.exists(harness.PROGRAM):
        raise pytest.UsageError("no server at " + harness.PROGRAM)
