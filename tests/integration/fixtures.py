"""Fixtures that the tests of several folders share; their conftest.py imports them by name."""
import sys

import pytest

import harness

sys.path.insert(0, str(harness.ROOT / "tests/support"))
import make_tiny_model  # noqa: E402


@pytest.fixture(scope="session")
def pb(tmp_path_factory):
    """The generated stubs."""
    return harness.stubs(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny checkpoint with random weights."""
    return make_tiny_model.make(tmp_path_factory.mktemp("models") / "tiny-llama")
