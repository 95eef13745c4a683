"""Node.js with @grpc/grpc-js."""
import os

import pytest

import harness
from tools import HERE, run

pytestmark = pytest.mark.foreign


def test_grpc_js(server, node):
    program, modules = node
    done = run(program, str(HERE / "node/client.js"), server.grpc_address, str(harness.ROOT / "proto"),
               env={**os.environ, "NODE_PATH": modules}, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == 5, done.stdout
