"""Runs the real Envoy with deploy/envoy/envoy.yaml, in which only addresses are replaced."""
import json
import os
import pathlib
import subprocess
import urllib.request

import harness

DEPLOYED = harness.ROOT / "deploy/envoy/envoy.yaml"
ENDPOINT = "address: ebbinghaus, port_value: 50051"  # stands alone in a line, which is repeated per replica
LISTENER = "address: 0.0.0.0, port_value: 50050"
ADMIN = "address: 127.0.0.1, port_value: 9901"


def configuration(addresses):
    """The deployed file for these HOST:PORTs, with free ports of this machine for Envoy itself."""
    lines = []
    for line in DEPLOYED.read_text().splitlines():
        if ENDPOINT in line:
            hosts = (address.rsplit(":", 1) for address in addresses)
            lines += [line.replace(ENDPOINT, "address: %s, port_value: %s" % (host, port)) for host, port in hosts]
        else:
            lines.append(line)
    text = "\n".join(lines) + "\n"
    assert len(lines) == len(DEPLOYED.read_text().splitlines()) + len(addresses) - 1
    for address in (LISTENER, ADMIN):
        assert text.count(address) == 1, address
        text = text.replace(address, "address: 127.0.0.1, port_value: 0")
    return text


class Envoy:
    """Use as a context manager: it serves at `address`, and at the end it must have been alive."""

    def __init__(self, program, folder, addresses, change=lambda text: text):
        file = pathlib.Path(folder) / "envoy.yaml"
        file.write_text(change(configuration(addresses)))
        admin = file.with_suffix(".admin")
        # Appended to, since Envoy opens what it has as standard output once more, for its events.
        self.log = (pathlib.Path(folder) / "envoy.log").open("a+")
        self.process = subprocess.Popen(
            [program, "-c", str(file), "--admin-address-path", str(admin), "--concurrency", "2", "--disable-hot-restart"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=harness.environment())
        try:
            self.admin = harness.wait_until(lambda: self._alive() and admin.exists() and admin.read_text(),
                                            "Envoy's admin address", harness.START_SECONDS)
            self.address = harness.wait_until(lambda: self._alive() and self._listener(), "Envoy to listen",
                                              harness.START_SECONDS)
            # It listens as soon as one replica is known to be healthy.
            harness.wait_until(lambda: self._alive() and self._healthy() == [len(addresses)] * 2, "all to be healthy",
                               harness.START_SECONDS)
        except BaseException:
            self._stop()
            print(self.read_log()[-4000:])
            raise

    def _alive(self):
        assert self.process.poll() is None, "Envoy ended"
        return True

    def _listener(self):
        for listener in json.loads(self.get("/listeners?format=json")).get("listener_statuses", []):
            address = listener["local_address"]["socket_address"]
            return "%s:%d" % (address["address"], address["port_value"])
        return None

    def _healthy(self):
        clusters = ("ebbinghaus", "ebbinghaus_affinity")
        return [self.statistic("cluster.%s.membership_healthy" % cluster) for cluster in clusters]

    def get(self, path):
        with urllib.request.urlopen("http://%s%s" % (self.admin, path), timeout=harness.STEP_SECONDS) as answer:
            return answer.read().decode()

    def statistic(self, name):
        for line in self.get("/stats?filter=^%s$" % name.replace(".", r"\.")).splitlines():
            return int(line.rsplit(" ", 1)[1])
        raise AssertionError("Envoy counts no " + name)

    def read_log(self):
        self.log.seek(0)
        return self.log.read()

    def _stop(self):
        self.process.terminate()
        try:
            self.process.wait(harness.STEP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        alive = self.process.poll() is None
        if kind is not None and alive:
            print(self.get("/clusters"))
        self._stop()
        if kind is not None:
            print(self.read_log()[-20000:])
        else:
            assert alive, self.read_log()[-4000:]


def validate(program, file):
    return subprocess.run([program, "--mode", "validate", "-c", str(file)], capture_output=True, text=True,
                          timeout=harness.START_SECONDS, env={**os.environ}, check=False)
