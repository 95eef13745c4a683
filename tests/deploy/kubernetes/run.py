#!/usr/bin/env python3
"""Tests deploy/kubernetes with Kubernetes' own code (kustomize, the API's types and validation, pod security, KEDA, the
Prometheus operator), which the Go modules bring, and beside the real server: run.py SERVER [arguments of go test]

Nothing here is a cluster. Exit code 77 with the reason where a tool is missing; where CI=true that is a failure.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SKIPPED = 77  # ctest's word for a test that did not run
DOWNLOAD_SECONDS, TEST_SECONDS = 900, 1500  # against hangs; the first time everything is compiled

sys.path.insert(0, str(ROOT / "tests/support"))
import make_tiny_model  # noqa: E402


def missing(what):
    print("skipped: missing: %s (scripts/setup.sh --all installs the tools)" % what, file=sys.stderr)
    sys.exit(1 if os.environ.get("CI") == "true" else SKIPPED)


def main():
    server, *arguments = sys.argv[1:]
    for tool, name in [("go", "Go"), ("promtool", "promtool")]:
        if not shutil.which(tool):
            missing(name)
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith("EBBINGHAUS_")},
                   "GOFLAGS": (os.environ.get("GOFLAGS", "") + " -mod=readonly").strip(),  # go.mod and go.sum pin all
                   "EBBINGHAUS_TEST_SERVER": os.path.abspath(server)}
    fetched = subprocess.run(["go", "list", "-deps", "-test", "-f", "{{.ImportPath}}", "."], cwd=HERE, env=environment,
                             capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    if fetched.returncode != 0:
        missing("the Go modules of tests/deploy/kubernetes; go said: " + fetched.stderr.strip()[-1000:])
    with tempfile.TemporaryDirectory() as folder:
        environment["EBBINGHAUS_TEST_MODEL"] = str(make_tiny_model.make(pathlib.Path(folder) / "tiny-llama"))
        return subprocess.run(["go", "test", "-count=1", "-timeout=%ds" % TEST_SECONDS, *arguments, "."], cwd=HERE,
                              env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
