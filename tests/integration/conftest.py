"""Fixtures: the generated stubs, a tiny model, and one server that most tests share."""
import os
import sys

import pytest

import harness

sys.path.insert(0, str(harness.ROOT / "tests/support"))
import make_tiny_model  # noqa: E402


@pytest.fixture(scope="session")
def pb(tmp_path_factory):
    return harness.stubs(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny checkpoint with random weights."""
    return make_tiny_model.make(tmp_path_factory.mktemp("models") / "tiny-llama")


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
