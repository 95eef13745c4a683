"""What is in the server's image, and what it says of itself."""
import copy
import hashlib
import json
import os
import re
import stat
import sys

import pytest

import harness
from conftest import ARGUMENTS
from containers import podman
from tools import cache, install, run

MOST_BYTES = 1_100_000_000
SPDX_TOOLS = "0.8.5"


@pytest.fixture(scope="module")
def image(server_image):
    return json.loads(podman("image", "inspect", server_image).stdout)[0]


@pytest.fixture(scope="module")
def sbom(image_root):
    return json.loads((image_root / "usr/share/doc/ebbinghaus/sbom.spdx.json").read_text())


@pytest.fixture(scope="module")
def spdx_errors(tmp_path_factory):
    """What the SPDX project's own validator says of a document: nothing, if it is valid."""
    folder = cache("spdx-tools-" + SPDX_TOOLS)
    if not (folder / "complete").exists():
        install("a virtual environment", sys.executable, "-m", "venv", "--clear", str(folder))
        install("spdx-tools", str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check",
                "spdx-tools==" + SPDX_TOOLS)
        (folder / "complete").touch()
    path = tmp_path_factory.mktemp("sbom") / "sbom.spdx.json"

    def validate(document):
        path.write_text(json.dumps(document))
        done = run(str(folder / "bin/pyspdxtools"), "--infile", str(path), "--version", "SPDX-2.3", timeout=300)
        return "" if done.returncode == 0 else done.stdout + done.stderr
    return validate


def packages(root):
    """{(name, version, architecture)} that dpkg has installed in a root folder."""
    shown = run("dpkg-query", "--admindir", str(root / "var/lib/dpkg"), "--showformat",
                "${db:Status-Status} ${Package} ${Version} ${Architecture}\n", "--show")
    assert shown.returncode == 0, shown.stderr
    return {tuple(line.split()[1:]) for line in shown.stdout.splitlines() if line.startswith("installed ")}


def programs(root):
    """The names of all that can be started, wherever it lies; what is a link counts by its own name."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            mode = os.lstat(os.path.join(folder, name)).st_mode
            if stat.S_ISLNK(mode) or mode & 0o111:
                found.setdefault(name, os.path.join(folder, name))
    return found


def test_the_image_is_at_most_as_large_as_promised(image):
    print("the image has %d bytes" % image["Size"])
    assert 300_000_000 < image["Size"] <= MOST_BYTES  # less would mean that not everything was counted


def test_it_runs_the_server_as_nobody_in_particular(image):
    config = image["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["ebbinghaus-server"] and not config.get("Cmd")
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert set(config["ExposedPorts"]) == {"50051/tcp", "9464/tcp"}
    check = image.get("Healthcheck") or config["Healthcheck"]
    assert check["Test"] == ["CMD", "ebbinghaus", "health"]


def test_its_labels_tell_what_it_was_made_from(image, image_root):
    labels = {name.rsplit(".", 1)[1]: value for name, value in image["Config"]["Labels"].items()
              if name.startswith("org.opencontainers.image.")}
    version = re.search(r"^project\(ebbinghaus VERSION (\S+)", (harness.ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)
    assert labels["version"] == version[1]
    assert labels["revision"] == ARGUMENTS["REVISION"] and labels["created"] == ARGUMENTS["CREATED"]
    assert labels["licenses"] == "MIT" and labels["title"] and labels["description"]


def test_it_has_no_compiler_and_no_python(image_root):
    found = programs(image_root)
    assert "ebbinghaus-server" in found and "sh" in found  # it does find things
    unwanted = re.compile(r"(.*-)?(gcc|g\+\+|cpp|cc|c\+\+|clang|clang\+\+|cc1|cc1plus|lto1|collect2|ld|ld\.(bfd|gold|lld)|as|gold"
                          r"|make|cmake|ninja|ccache|python|pip|gdb)(-?\d{1,2}(\.\d{1,2})?)?")
    assert sorted(path for name, path in found.items() if unwanted.fullmatch(name)) == []
    # What the user it runs as could change.
    owned = [path for path in found.values() if os.lstat(path).st_uid == 65532]
    assert owned == []


def test_libtorch_computes_with_openblas(image_root):
    library = os.readlink(image_root / "etc/alternatives/libblas.so.3-x86_64-linux-gnu")
    assert "openblas-pthread" in library
    assert (image_root / library.lstrip("/")).exists()


def test_its_bill_of_materials_lists_every_package(sbom, image_root):
    by_id = {entry["SPDXID"]: entry for entry in sbom["packages"]}
    image = next(r["relatedSpdxElement"] for r in sbom["relationships"] if r["relationshipType"] == "DESCRIBES")
    inside = [by_id[r["relatedSpdxElement"]] for r in sbom["relationships"]
              if r["spdxElementId"] == image and r["relationshipType"] == "CONTAINS"]
    listed = set()
    for package in inside:
        if package["name"] == "ebbinghaus":
            continue
        url = package["externalRefs"][0]["referenceLocator"]
        architecture = re.fullmatch(r"pkg:deb/debian/\S+\?arch=(\w+)&distro=debian-13", url)
        listed.add((package["name"], package["versionInfo"], architecture[1]))
    there = packages(image_root)
    assert len(there) > 100
    assert listed == there


def test_its_bill_of_materials_knows_our_programs(sbom, image_root):
    for file in sbom["files"]:
        sums = {entry["algorithm"]: entry["checksumValue"] for entry in file["checksums"]}
        assert sums["SHA256"] == hashlib.sha256((image_root / file["fileName"]).read_bytes()).hexdigest()
    assert len(sbom["files"]) == 2
    linked = {r["relatedSpdxElement"] for r in sbom["relationships"] if r["relationshipType"] == "STATIC_LINK"}
    assert linked - {"SPDXRef-deb-nlohmann-json3-dev-all"} == {
        p["SPDXID"] for p in sbom["packages"] if re.fullmatch(r"libboost1\.\d+-dev", p["name"])}
    assert len(linked) == 2
    assert sbom["creationInfo"]["created"] == ARGUMENTS["CREATED"]


def test_its_bill_of_materials_is_valid_spdx(sbom, spdx_errors):
    assert spdx_errors(sbom) == ""
    broken = copy.deepcopy(sbom)
    broken["relationships"][-1]["relatedSpdxElement"] = "SPDXRef-nothing"
    assert "SPDXRef-nothing" in spdx_errors(broken)
