"""Requests with a thousand faults each, and what must be said of them in any language."""
NAMED = 16  # violations; the rest is counted
FAULTS = 1000
VOCABULARY = 300  # of the tiny model


def thousand_faults(pb):
    """(request, what its message must end with): many fields, each with its own violation, and lists, which have one."""
    beyond = range(VOCABULARY, VOCABULARY + FAULTS)
    ranges = pb.GenerateRequest(text="x", generation_mode=pb.GENERATION_MODE_SPARSE_ATTENTION)
    for _ in beyond:
        ranges.memory.pinned.add(begin=0)  # and no end
    yield ranges, "; and %d more violations" % (FAULTS - NAMED)
    yield pb.GenerateRequest(text="x", stop_token_ids=beyond), ", nor are %d more" % (FAULTS - 1)
    yield pb.GenerateRequest(token_ids=pb.TokenIds(ids=beyond)), ", nor are %d more" % (FAULTS - 1)
    biases = pb.GenerateRequest(text="x")
    for token_id in beyond:
        biases.sampling.logit_bias[token_id] = 1
    yield biases, ", nor are %d more" % (FAULTS - 1)
