#!/usr/bin/env python3
"""Fails when a file under server/ or client/ includes a header of its own or a higher rank.

The ranks are those of docs/architecture.md: an include may only go down. Also keeps the third-party
headers where they belong: libtorch between cache and engine, gRPC and protobuf in rpc and client.
"""
import pathlib, re, sys

RANK = {"base": 0, "kernels": 1, "memory": 1, "jinja": 1, "text": 2, "metrics": 1, "cache": 2, "model": 3,
        "engine": 4, "scheduler": 5, "rpc": 6, "http": 6, "": 7}
THIRD_PARTY = [  # pattern, rooms that may include it
    (r"^(ATen|c10|torch|caffe2)/", {"cache", "model", "engine"}),
    (r"^(grpc|grpcpp|google/protobuf|ebbinghaus/v1)", {"rpc", "", "client"}),
    (r"^(spdlog|fmt)/", {"scheduler", "rpc", ""}),
    (r"^prometheus/", {"metrics"}),
    (r"^boost/", {"http"}),
    (r"^pcre2", {"text"}),
    (r"^unicode/", {"jinja", "text"}),
]
root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
bad, seen = [], 0
for path in sorted([*root.glob("server/**/*.h"), *root.glob("server/**/*.cc"), *root.glob("client/**/*.h"), *root.glob("client/**/*.cc")]):
    parts = path.relative_to(root).parts
    room = "client" if parts[0] == "client" else (parts[1] if len(parts) > 2 else "")
    seen += 1
    for number, line in enumerate(path.read_text().splitlines(), 1):
        m = re.match(r'\s*#\s*include\s*["<]([^">]+)[">]', line)
        if not m:
            continue
        target = m.group(1)
        where = "%s:%d" % (path.relative_to(root), number)
        if target.startswith("server/"):
            other = target.split("/")[1] if target.count("/") > 1 else ""
            if room == "client" or (other != room and RANK[other] >= RANK[room]):
                bad.append("%s: %s may not include %s" % (where, room or "main", target))
        elif target.startswith("client/") and room != "client":
            bad.append("%s: the server may not include the client" % where)
        for pattern, rooms in THIRD_PARTY:
            if re.search(pattern, target) and room not in rooms:
                bad.append("%s: %s does not belong in %s" % (where, target, room or "main"))
        if path.suffix == ".h" and re.search(r"^(torch/torch|spdlog/spdlog|grpcpp/grpcpp)\.h", target):
            bad.append("%s: %s in a header slows every build" % (where, target))
if not seen:
    bad.append("no sources found below %s" % root)
print("\n".join(bad) or "%d files, every include goes down" % seen)
sys.exit(bool(bad))
