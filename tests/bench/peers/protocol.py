"""The orders that engines of the comparison obey, one per line, each answered by a line of JSON; see tests/bench/driver.h."""
import json
import sys
import time


def serve(engine):
    """Until standard input ends. `engine` has prefill(tokens), open(batch, context, steps, live), step() and close()."""
    answer({})  # loaded
    for line in sys.stdin:
        try:
            answer(obey(engine, line.split()))
        except Exception as error:  # the other engines go on
            answer({"error": "%s: %s" % (type(error).__name__, error)})


def answer(value):
    print(json.dumps(value), file=OUT, flush=True)


def obey(engine, words):
    order, numbers = words[0], [int(word) for word in words[1:]]
    if order == "prefill":
        return {"seconds": timed(lambda: engine.prefill(*numbers))}
    if order == "open":
        batch, context, steps, live = (numbers + [None])[:4]
        return {"seconds": timed(lambda: engine.open(batch, context, steps, live))}
    if order == "step":
        return {"step_seconds": [timed(engine.step) for _ in range(numbers[0])]}
    if order == "close":
        engine.close()
        return {}
    raise ValueError("no order " + order)


def timed(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


# Libraries print on standard output; answers must stand alone there.
OUT, sys.stdout = sys.stdout, sys.stderr
