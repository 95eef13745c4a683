#!/usr/bin/env python3
"""Prints the image's software bill of materials, SPDX 2.3 as JSON, from what dpkg has recorded.

    sbom.py --dpkg FOLDER --os-release FILE --programs FOLDER [--compiled-in PACKAGE]... [--created TIME]

FOLDER of --dpkg is the image's /var/lib/dpkg, FILE its os-release; the programs are ours. --compiled-in names a package
of this machine whose code is inside the programs, which the image's dpkg does not know of. Licences of Debian's packages
are not asserted: they are prose, in the image at /usr/share/doc/PACKAGE/copyright. Nothing but the standard library.
"""
import argparse
import datetime
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import urllib.parse
import uuid

FIELDS = ("${db:Status-Status}", "${Package}", "${Architecture}", "${Version}", "${source:Package}", "${source:Version}",
          "${Homepage}")
PROGRAMS = ("ebbinghaus-server", "ebbinghaus")


def packages(*patterns, folder="/var/lib/dpkg"):
    """What dpkg has on record in the folder: one dictionary per installed package."""
    answer = subprocess.run(["dpkg-query", "--admindir", str(folder), "--showformat", "\t".join(FIELDS) + "\n", "--show",
                             *patterns], stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = [line.split("\t") for line in answer.splitlines()]
    names = ("status", "name", "architecture", "version", "source", "source_version", "homepage")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return sorted((p for p in found if p["status"] == "installed"), key=lambda p: (p["name"], p["architecture"]))


def os_release(path):
    """The values of an os-release file."""
    pairs = re.findall(r'^([A-Z_]+)="?(.*?)"?$', path.read_text(), re.MULTILINE)
    return dict(pairs)


def spdx_id(*words):
    """An SPDX identifier, in which only letters, digits, dots and dashes may stand."""
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", "-".join(words).replace("+", "-plus"))


def debian_package(package, system):
    """A Debian package as an SPDX package."""
    quote = lambda text: urllib.parse.quote(text, safe="")  # noqa: E731
    url = "pkg:deb/%s/%s@%s?arch=%s&distro=%s-%s" % (
        quote(system["ID"]), quote(package["name"]), quote(package["version"]), quote(package["architecture"]),
        quote(system["ID"]), quote(system["VERSION_ID"]))
    entry = {
        "SPDXID": spdx_id("deb", package["name"], package["architecture"]), "name": package["name"],
        "versionInfo": package["version"], "supplier": "Organization: " + system["NAME"],
        "downloadLocation": "NOASSERTION", "filesAnalyzed": False,
        "sourceInfo": "built from the source package %s %s" % (package["source"], package["source_version"]),
        "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION",
        "licenseComments": "/usr/share/doc/%s/copyright" % package["name"],
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": url}]}
    if package["homepage"]:
        entry["homepage"] = package["homepage"]
    return entry


def program_file(path):
    """One of our programs as an SPDX file."""
    data = path.read_bytes()
    return {"SPDXID": spdx_id("file", path.name), "fileName": "./usr/local/bin/" + path.name, "fileTypes": ["BINARY"],
            "checksums": [{"algorithm": "SHA1", "checksumValue": hashlib.sha1(data).hexdigest()},
                          {"algorithm": "SHA256", "checksumValue": hashlib.sha256(data).hexdigest()}],
            "licenseConcluded": "MIT", "copyrightText": "NOASSERTION"}


def verification_code(files):
    """SPDX's digest of a package's files."""
    sums = sorted(file["checksums"][0]["checksumValue"] for file in files)
    return hashlib.sha1("".join(sums).encode()).hexdigest()


def document(installed, compiled_in, programs, system, created):
    """The whole SPDX document."""
    said = subprocess.run([programs / PROGRAMS[0], "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    version = said.split()[-1]
    files = [program_file(programs / name) for name in PROGRAMS]
    image = {"SPDXID": spdx_id("image"), "name": "ebbinghaus-image", "versionInfo": version,
             "primaryPackagePurpose": "CONTAINER", "downloadLocation": "NOASSERTION", "filesAnalyzed": False,
             "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION"}
    ours = {"SPDXID": spdx_id("ebbinghaus"), "name": "ebbinghaus", "versionInfo": version,
            "primaryPackagePurpose": "APPLICATION", "downloadLocation": "NOASSERTION", "filesAnalyzed": True,
            "packageVerificationCode": {"packageVerificationCodeValue": verification_code(files)},
            "licenseConcluded": "MIT", "licenseDeclared": "MIT", "licenseInfoFromFiles": ["MIT"],
            "copyrightText": "NOASSERTION"}
    debian = [debian_package(p, system) for p in installed]
    inside = [debian_package(p, system) for p in compiled_in]

    def relation(left, kind, right):
        return {"spdxElementId": left, "relationshipType": kind, "relatedSpdxElement": right}

    relations = [relation("SPDXRef-DOCUMENT", "DESCRIBES", image["SPDXID"]),
                 relation(image["SPDXID"], "CONTAINS", ours["SPDXID"])]
    relations += [relation(ours["SPDXID"], "CONTAINS", file["SPDXID"]) for file in files]
    relations += [relation(image["SPDXID"], "CONTAINS", p["SPDXID"]) for p in debian]
    relations += [relation(ours["SPDXID"], "STATIC_LINK", p["SPDXID"]) for p in inside]
    content = {"packages": [image, ours, *debian, *inside], "files": files, "relationships": relations}
    # The same contents have the same name, others another.
    name = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True) + created)
    return {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
            "name": "ebbinghaus-image-" + version, "documentNamespace": "urn:uuid:%s" % name,
            "creationInfo": {"created": created, "creators": ["Tool: ebbinghaus-sbom-" + version]}, **content}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dpkg", type=pathlib.Path, required=True)
    parser.add_argument("--os-release", type=pathlib.Path, required=True)
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--compiled-in", action="append", default=[], metavar="PACKAGE")
    parser.add_argument("--created", default="", help="as 2026-01-31T12:00:00Z; default: now")
    options = parser.parse_args()
    installed = packages(folder=options.dpkg)
    compiled_in = packages(*options.compiled_in) if options.compiled_in else []
    if not installed or len(compiled_in) < len(options.compiled_in):
        sys.exit("sbom.py: dpkg knows %d packages in the image and %d of those compiled in"
                 % (len(installed), len(compiled_in)))
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    json.dump(document(installed, compiled_in, options.programs, os_release(options.os_release), options.created or now),
              sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
