#!/usr/bin/env python3
"""Writes constructs.json: what jinja2 3.1.6 makes of each row of constructs.py (null: it refuses).

    generate.py [--check]

With --check nothing is written; the exit code says whether the file is as it would be written.
"""
import json
import os
import pathlib
import sys
import time

import constructs
import reference

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import oracle

FILE = pathlib.Path(__file__).parent / "constructs.json"


def expected(source):
    """What jinja2 writes; null where it refuses, or where it writes what we refuse on purpose: an
    address, which differs each time, or one of constructs.REFUSED."""
    text = reference.render(source, constructs.VARIABLES)
    return None if text is None or " at 0x" in text or source in constructs.REFUSED else text


def main():
    oracle.enter_venv()
    os.environ["TZ"] = "UTC"
    time.tzset()
    rows = [[source, expected(source)] for source in constructs.rows()]
    dump = lambda value: json.dumps(value, ensure_ascii=False)
    text = '{"now": %d, "variables": %s,\n"rows": [\n%s\n]}\n' % (
        reference.NOW, dump(constructs.VARIABLES), ",\n".join(map(dump, rows)))
    refused = sum(want is None for _, want in rows)
    print(f"{len(rows)} constructs, {refused} refused")
    if "--check" in sys.argv:
        sys.exit(FILE.read_text() != text)
    FILE.write_text(text)


main()
