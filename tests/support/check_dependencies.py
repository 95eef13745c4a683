#!/usr/bin/env python3
"""Compares docs/dependencies.md with scripts/setup.sh and, on a Debian that it speaks of, with what is installed:
check_dependencies.py [SOURCE TREE]

Every package that building and running need has to be in its tables, with the version there is; nothing else may be.
"""
import pathlib
import re
import subprocess
import sys

COLUMNS = {"12": 1, "13": 2}  # Debian's version: column of its packages' versions


def array(script, name):
    """The words of a bash array and of what is added to it, without comments."""
    bodies = re.findall(r"\b%s\+?=\((.*?)\)(?: *#.*)?$" % name, script, re.MULTILINE | re.DOTALL)
    if not bodies:
        sys.exit("scripts/setup.sh has no array " + name)
    return re.sub(r"#.*", "", "\n".join(bodies)).split()


def tables(text):
    """{package: [cells]} of the rows that begin with a package's name."""
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and re.fullmatch(r"`[a-z0-9.+-]+`", cells[0]):
            rows[cells[0].strip("`")] = cells
    return rows


def debian():
    try:
        fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', pathlib.Path("/etc/os-release").read_text(), re.MULTILINE))
    except OSError:
        return None
    return fields.get("VERSION_ID") if fields.get("ID") == "debian" else None


def installed(package):
    """The version without epoch, or nothing."""
    shown = subprocess.run(["dpkg-query", "-W", "-f=${db:Status-Status} ${Version}", package], capture_output=True, text=True,
                           check=False).stdout.split()
    return shown[1].split(":")[-1] if shown and shown[0] == "installed" else None


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    script = (root / "scripts/setup.sh").read_text()
    text = (root / "docs/dependencies.md").read_text()
    needed = array(script, "BUILD") + array(script, "LIBRARIES")
    rows = tables(text)
    faults = ["%s is in scripts/setup.sh, but in no table" % name for name in needed if name not in rows]
    faults += ["%s is in a table, but not in scripts/setup.sh" % name for name in rows if name not in needed]
    faults += ["%s is in scripts/setup.sh, but not named" % name for name in array(script, "TOOLS") + array(script, "ALL")
               if "`%s`" % name not in text]
    column = COLUMNS.get(debian())
    for name, cells in rows.items():
        if len(cells) != 5 or not all(cells):
            faults.append("%s: a cell is missing or empty" % name)
            continue
        version = installed(name) if column else None
        if version and not re.match(re.escape(cells[column]) + r"(?![0-9])", version):
            faults.append("%s is %s here, the table says %s" % (name, version, cells[column]))
    for fault in faults:
        print("docs/dependencies.md: " + fault)
    print("%d packages, %d faults" % (len(rows), len(faults)))
    return 1 if faults or len(needed) < 10 else 0


if __name__ == "__main__":
    sys.exit(main())
