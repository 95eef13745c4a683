"""Fixtures: the generated stubs, a tiny model, and one server that most tests share."""
import importlib
import os
import pathlib
import sys

import grpc_tools
import pytest
from grpc_tools import protoc

import harness

sys.path.insert(0, str(harness.ROOT / "tests/support"))
import make_tiny_model  # noqa: E402


@pytest.fixture(scope="session")
def pb(tmp_path_factory):
    """The messages, and `pb.Stub`, made from the proto as any client would."""
    out = tmp_path_factory.mktemp("stubs")
    includes = pathlib.Path(grpc_tools.__path__[0]) / "_proto"
    code = protoc.main(["protoc", "-I%s" % (harness.ROOT / "proto"), "-I%s" % includes, "--python_out=%s" % out,
                        "--grpc_python_out=%s" % out, "ebbinghaus/v1/inference.proto"])
    assert code == 0
    sys.path.insert(0, str(out))
    module = importlib.import_module("ebbinghaus.v1.inference_pb2")
    module.Stub = importlib.import_module("ebbinghaus.v1.inference_pb2_grpc").InferenceServiceStub
    return module


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


def pytest_collection_modifyitems(items):
    if not os.path.exists(harness.PROGRAM):
        raise pytest.UsageError("no server at " + harness.PROGRAM)
