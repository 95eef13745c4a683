"""What the memory reports over the wire."""
import pytest

from test_generate import MODES, PROMPT, generate, ids_of, request

LAYERS = 4
FORGETFUL = ("generation_mode: GENERATION_MODE_SPARSE_ATTENTION return_forget_events: true "
             "memory { sink_tokens: 2 recent_tokens: 6 max_live_tokens: 20 %s }")


def test_baseline_reports_live_tokens_and_bytes_only(pb, stub):
    started, tokens, memory, finished = generate(stub, request(pb))
    stats = finished.memory_stats
    fed = started.prompt_tokens + len(tokens) - 1  # the last token was not fed back
    assert stats.total_tokens == stats.live_tokens == fed
    assert stats.forgotten_tokens == stats.forget_events == 0
    assert 0 < stats.kv_bytes <= stats.kv_peak_bytes
    assert not memory
    assert [layer.layer for layer in stats.layers] == list(range(LAYERS))
    assert all(layer.live_tokens == fed and layer.mean_strength == 0 for layer in stats.layers)


@pytest.mark.parametrize("scope", ["FORGET_SCOPE_CONSENSUS", "FORGET_SCOPE_PER_LAYER"])
def test_the_budget_holds_and_every_loss_is_reported(pb, stub, scope):
    started, tokens, memory, finished = generate(stub, request(pb, FORGETFUL % ("scope: " + scope)))
    assert started.memory.max_live_tokens == 20
    assert all(token.live_tokens <= 20 for token in tokens[1:])
    events = [event for part in memory for event in part.forgotten]
    stats = finished.memory_stats
    assert len(events) == stats.forget_events > 0
    assert stats.live_tokens <= 20 and stats.total_tokens - stats.live_tokens == stats.forgotten_tokens
    assert stats.kv_bytes < stats.kv_baseline_bytes or stats.kv_bytes <= stats.kv_peak_bytes
    per_layer = scope.endswith("PER_LAYER")
    assert all(event.HasField("layer") == per_layer for event in events)
    gone = [(event.layer if per_layer else 0, event.position) for event in events]
    assert len(set(gone)) == len(gone)  # forgotten stays forgotten
    ids = list(stub.Tokenize(pb.TokenizeRequest(text=PROMPT)).ids) + ids_of(tokens)
    for event in events:
        assert event.position >= 2  # the sinks stay
        assert event.token_id == ids[event.position]
        assert event.step >= 1


def test_pinned_positions_are_never_forgotten(pb, stub):
    _, _, memory, _ = generate(stub, request(pb, FORGETFUL % "pinned { begin: 5 end: 9 }"))
    positions = {event.position for part in memory for event in part.forgotten}
    assert positions and not positions & {5, 6, 7, 8}


@pytest.mark.parametrize("mode", MODES[1:])
def test_snapshots_come_every_n_tokens(pb, stub, mode):
    _, tokens, memory, _ = generate(stub, request(pb, "generation_mode: %s memory_every_n_tokens: 5" % mode))
    snapshots = [part for part in memory if part.HasField("snapshot")]
    assert len(snapshots) == len(tokens) // 5
    assert all(len(part.snapshot.layers) == LAYERS for part in snapshots)
    assert all(0 < layer.mean_retention <= 1 and layer.mean_strength >= 5
               for part in snapshots for layer in part.snapshot.layers)
    totals = [part.snapshot.total_tokens for part in snapshots]
    assert totals == sorted(totals) and len(set(totals)) == len(totals)


def test_token_weights_name_every_token_once_per_layer(pb, stub):
    started, tokens, memory, finished = generate(stub, request(pb, FORGETFUL % "" + " return_token_weights: true"))
    rows = {layer: [] for layer in range(LAYERS)}
    for part in memory:
        for row in part.token_weights:
            sizes = {len(row.positions), len(row.retention), len(row.strength), len(row.time), len(row.forgotten_step)}
            assert len(sizes) == 1
            rows[row.layer] += zip(row.positions, row.retention, row.forgotten_step)
    fed = started.prompt_tokens + len(tokens) - 1
    for layer, entries in rows.items():
        assert [position for position, _, _ in entries] == list(range(fed))
        live = sum(1 for _, _, step in entries if step == 0)
        assert live == finished.memory_stats.layers[layer].live_tokens
        assert all((retention == 0) == (step > 0) for _, retention, step in entries)


@pytest.mark.parametrize("mode", MODES)
def test_attention_rows_are_probabilities_over_live_positions(pb, stub, mode):
    started, tokens, memory, _ = generate(stub, request(
        pb, "generation_mode: %s return_attention_weights: true attention { top_k: 0 }" % mode))
    plain = generate(stub, request(pb, "generation_mode: %s" % mode))[1]
    assert ids_of(tokens) == ids_of(plain)
    for i, token in enumerate(tokens):
        assert [row.layer for row in token.attention] == list(range(LAYERS))
        for row in token.attention:
            assert sorted(row.positions) == list(range(started.prompt_tokens + i))
            assert sum(row.weights) == pytest.approx(1, abs=1e-3)
            assert list(row.weights) == sorted(row.weights, reverse=True)


def test_attention_can_be_limited(pb, stub):
    tokens = generate(stub, request(
        pb, "return_attention_weights: true attention { layers: 1 layers: 3 top_k: 4 every_n_tokens: 3 }"))[1]
    with_rows = [i for i, token in enumerate(tokens) if token.attention]
    assert with_rows and all(b - a == 3 for a, b in zip(with_rows, with_rows[1:]))
    for i in with_rows:
        assert [row.layer for row in tokens[i].attention] == [1, 3]
        assert all(len(row.positions) == 4 for row in tokens[i].attention)


def test_long_token_weights_are_cut_below_one_mebibyte(pb, stub):
    message = pb.GenerateRequest(max_new_tokens=2, ignore_eos=True, return_token_weights=True,
                                 generation_mode=pb.GENERATION_MODE_SPARSE_ATTENTION)
    message.token_ids.ids.extend([(i * 7) % 250 for i in range(8000)])
    message.return_attention_weights = True
    message.attention.top_k = 0
    _, _, memory, _ = generate(stub, message)  # checks the sizes
    total = sum(len(row.positions) for part in memory for row in part.token_weights)
    assert total == LAYERS * 8001


def test_presets_are_applied_before_the_fields_beside_them(pb, stub):
    started = generate(stub, request(
        pb, "generation_mode: GENERATION_MODE_SPARSE_ATTENTION memory { preset: MEMORY_PRESET_TIGHT recent_tokens: 3 }"))[0]
    assert started.memory.time_step == pytest.approx(0.175)
    assert started.memory.scope == pb.FORGET_SCOPE_PER_LAYER
    assert started.memory.prompt_observation == pb.PROMPT_OBSERVATION_ALL
    assert started.memory.recent_tokens == 3


def test_what_started_reports_can_be_sent_back(pb, stub):
    first = generate(stub, request(pb, FORGETFUL % "pinned { begin: 3 end: 4 }"))
    message = request(pb, "generation_mode: GENERATION_MODE_SPARSE_ATTENTION")
    message.memory.CopyFrom(first[0].memory)
    message.sampling.CopyFrom(first[0].sampling)
    again = generate(stub, message)
    assert again[0].memory == first[0].memory
    assert ids_of(again[1]) == ids_of(first[1])
