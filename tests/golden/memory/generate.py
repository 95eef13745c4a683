"""Writes cases/*.json and logits.safetensors with what reference.py computes.  python generate.py

Every case is teacher-forced: a random prompt, then random tokens fed back one by one, so that sampling does not
matter. Seeds are tried in order until no decision is so close that rounding could turn it (README.md).
"""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from reference import BASELINE, SOFT, SPARSE, MaskedMemory, resolve
from tiny_model import MODELS, TinyModel

HERE = Path(__file__).parent
# Relative. Between fp32 and fp64 masses drift by a few 1e-6, strengths by 1e-6 (both printed, case by case).
RESET_MARGIN, VOTE_MARGIN, ORDER_MARGIN = 3e-5, 2e-5, 2e-5

PER_LAYER = {"scope": "FORGET_SCOPE_PER_LAYER"}
ALL_PROMPT = {"prompt_observation": "PROMPT_OBSERVATION_ALL"}
FIRST_HALF = {"vote_layers": "VOTE_LAYERS_FIRST_HALF"}
KV_SCALE = {"soft_form": "SOFT_FORM_KV_SCALE"}
BARE = {"sink_tokens": 0, "recent_tokens": 0}
FEW = {"sink_tokens": 2, "recent_tokens": 8}
QUICK = {"time_step": 1.0, "reset_threshold": 0.1}


def window(tokens: int) -> dict:
    return {"prompt_observation": "PROMPT_OBSERVATION_WINDOW", "prompt_window_tokens": tokens}


def preset(name: str) -> dict:
    return {"preset": "MEMORY_PRESET_" + name}


@dataclasses.dataclass
class Case:
    name: str
    model: str
    mode: str
    memory: dict
    prompt: int = 32
    steps: int = 80
    forgets: bool | None = None  # None: as the mode says


CASES = [
    Case("baseline", "llama", BASELINE, {}, steps=40),
    Case("soft_log_bias_in_one_layer_of_three", "qwen2", SOFT, QUICK | {"soft_floor": 0.3}),
    Case("soft_log_bias_below_a_ceiling", "mistral", SOFT,
         QUICK | {"soft_floor": 0.2, "soft_ceiling": 0.9, "soft_layer_ratio": 0.6}),
    Case("soft_log_bias_in_all_layers_with_all_of_the_prompt", "llama", SOFT,
         ALL_PROMPT | {"time_step": 0.5, "reset_threshold": 0.08, "soft_floor": 0.1, "soft_layer_ratio": 1.0}),
    Case("soft_kv_scale_in_all_layers", "qwen2", SOFT,
         QUICK | KV_SCALE | {"soft_floor": 0.3, "soft_ceiling": 0.95, "soft_layer_ratio": 1.0}),
    Case("soft_kv_scale_of_the_original_preset", "llama", SOFT, preset("ORIGINAL") | {"time_step": 0.5}),
    Case("soft_chat_preset", "llama", SOFT, preset("CHAT")),
    Case("soft_default_preset", "qwen2", SOFT, preset("DEFAULT")),
    Case("soft_observing_every_third_step_under_a_cap", "mistral", SOFT,
         window(8) | {"time_step": 0.7, "reset_threshold": 0.08, "soft_floor": 0.2, "observe_interval": 3,
                      "strength_cap": 6.0, "prompt_ticks": 1}),
    Case("sparse_consensus_of_half_of_three_layers", "qwen2", SPARSE, QUICK | FEW),
    Case("sparse_consensus_of_all_layers", "llama", SPARSE, QUICK | FEW | {"vote_ratio": 1.0}),
    Case("sparse_consensus_of_one_layer_of_five", "mistral", SPARSE, QUICK | FEW | {"vote_ratio": 0.2}),
    Case("sparse_first_half_of_five_layers_votes", "mistral", SPARSE, QUICK | FEW | FIRST_HALF),
    Case("sparse_first_half_of_four_layers_votes", "llama", SPARSE, QUICK | FEW | FIRST_HALF),
    Case("sparse_two_thirds_of_three_layers", "qwen2", SPARSE,
         BARE | {"time_step": 1.5, "reset_threshold": 0.15, "vote_ratio": 2 / 3, "initial_strength": 2.0,
                 "forget_threshold": 0.02}),
    Case("sparse_per_layer_without_protection", "qwen2", SPARSE, QUICK | BARE | PER_LAYER),
    Case("sparse_per_layer_with_all_of_the_prompt", "mistral", SPARSE, QUICK | FEW | PER_LAYER | ALL_PROMPT),
    Case("sparse_keeps_a_minimum", "qwen2", SPARSE,
         BARE | {"time_step": 2.0, "reset_threshold": 0.3, "initial_strength": 2.0, "min_live_tokens": 12}),
    Case("sparse_keeps_a_minimum_in_each_layer", "llama", SPARSE,
         BARE | PER_LAYER | {"time_step": 2.0, "reset_threshold": 0.2, "initial_strength": 2.0,
                             "min_live_tokens": 10}),
    Case("sparse_pinned_ranges_stay", "llama", SPARSE,
         BARE | {"time_step": 2.0, "reset_threshold": 0.15, "pinned": [{"begin": 3, "end": 6},
                                                                     {"begin": 20, "end": 22},
                                                                     {"begin": 40, "end": 43}]}),
    Case("sparse_prompt_takes_time", "llama", SPARSE, QUICK | FEW | window(6) | {"prompt_ticks": 2}),
    Case("sparse_per_layer_prompt_takes_time", "qwen2", SPARSE,
         QUICK | FEW | PER_LAYER | ALL_PROMPT | {"prompt_ticks": 1}),
    Case("sparse_window_longer_than_the_prompt", "mistral", SPARSE,
         FEW | window(100) | {"time_step": 1.0, "reset_threshold": 0.08}, prompt=24, steps=100),
    Case("sparse_budget_by_consensus", "llama", SPARSE,
         FEW | {"time_step": 0.5, "reset_threshold": 0.1, "max_live_tokens": 40}),
    Case("sparse_budget_smaller_than_the_prompt", "mistral", SPARSE,
         FEW | {"time_step": 0.3, "reset_threshold": 0.1, "max_live_tokens": 24}, prompt=60, steps=60),
    Case("sparse_budget_while_time_stands_still", "qwen2", SPARSE,
         {"time_step": 0.0, "max_live_tokens": 32, "sink_tokens": 4, "recent_tokens": 8}),
    Case("sparse_budget_per_layer_while_time_stands_still", "mistral", SPARSE,
         PER_LAYER | ALL_PROMPT | {"time_step": 0.0, "max_live_tokens": 28, "sink_tokens": 1, "recent_tokens": 6}),
    Case("sparse_budget_per_layer_tight_preset", "qwen2", SPARSE,
         preset("TIGHT") | {"max_live_tokens": 48, "recent_tokens": 16}, prompt=40),
    Case("sparse_budget_and_expiry_per_layer", "llama", SPARSE,
         PER_LAYER | {"time_step": 2.0, "reset_threshold": 0.12, "max_live_tokens": 30, "sink_tokens": 2,
                      "recent_tokens": 4, "min_live_tokens": 8}),
    Case("sparse_budget_and_expiry_by_consensus", "mistral", SPARSE,
         BARE | {"time_step": 2.0, "reset_threshold": 0.12, "max_live_tokens": 26}),
    Case("sparse_budget_ties_under_a_cap", "qwen2", SPARSE,
         {"time_step": 0.5, "reset_threshold": 0.1, "max_live_tokens": 30, "sink_tokens": 0, "recent_tokens": 4,
          "observe_interval": 4, "strength_cap": 5.25}),
    Case("sparse_tight_preset_with_rarer_resets", "qwen2", SPARSE, preset("TIGHT") | {"reset_threshold": 0.2},
         prompt=40, steps=290),
    Case("sparse_chat_preset_hurried", "llama", SPARSE,
         preset("CHAT") | {"time_step": 0.5, "reset_threshold": 0.04}, steps=140),
    Case("sparse_original_preset_hurried", "llama", SPARSE,
         preset("ORIGINAL") | {"time_step": 1.5, "reset_threshold": 0.1}),
    Case("sparse_default_preset_forgets_nothing", "mistral", SPARSE, preset("DEFAULT"), forgets=False),
    Case("sparse_prompt_of_one_token", "llama", SPARSE, QUICK | FEW, prompt=1, steps=100),
]


def run(case: Case, model: TinyModel, ids: list[int]) -> tuple[MaskedMemory, dict[int, np.ndarray], dict]:
    """The sequence, the logits and live counts of some steps; ends early once a decision was too close."""
    memory = MaskedMemory(model, case.mode, resolve(case.memory))
    keep = sorted({0, 1, case.steps} | set(range(20, case.steps, 20)))
    live = {}
    logits = {0: memory.read_prompt(ids[:case.prompt])}
    for step, token in enumerate(ids[case.prompt:], start=1):
        row = memory.feed(token)
        if not has_wide_margins(memory):
            break
        if step in keep:
            logits[step] = row
        if step in keep or step % 10 == 0:
            live[str(step)] = memory.live.sum(axis=1).tolist()
    return memory, logits, live


def has_wide_margins(memory: MaskedMemory) -> bool:
    margins = memory.margins
    return margins.reset > RESET_MARGIN and margins.vote > VOTE_MARGIN and margins.order > ORDER_MARGIN


def is_clear(case: Case, memory: MaskedMemory) -> bool:
    if case.mode == BASELINE:
        return True
    forgets = case.mode == SPARSE if case.forgets is None else case.forgets
    return has_wide_margins(memory) and memory.resets > 0 and forgets == bool(memory.events)


def check_against_the_library(name: str) -> float:
    """The largest difference from the logits that ../models/expected holds for baseline."""
    model, worst = TinyModel(name), 0.0
    fixture = json.loads((MODELS / "expected" / f"{name}.json").read_text())
    logits = load_file(MODELS / "expected" / f"{name}.safetensors")
    for length, prompt in fixture["prompts"].items():
        memory = MaskedMemory(model, BASELINE, resolve({}))
        worst = max(worst, np.abs(memory.read_prompt(prompt) - logits[f"prompt_{length}.last"]).max())
    memory = MaskedMemory(model, BASELINE, resolve({}))
    row = memory.read_prompt(fixture["prompts"][fixture["greedy"]["prompt"]])
    for step, token in enumerate(fixture["greedy"]["ids"]):
        worst = max(worst, np.abs(row - logits["greedy.logits"][step]).max())
        row = memory.feed(token)
    assert worst < 5e-5, (name, worst)
    return float(worst)


def rounded(values: np.ndarray, digits: int) -> list:
    return [float(f"{value:.{digits}g}") for value in values]


def expectation(memory: MaskedMemory, logits: dict[int, np.ndarray], live: dict) -> dict:
    layers = []
    for layer in range(memory.layers):
        alive = np.flatnonzero(memory.live[layer])
        layers.append({"positions": alive.tolist(), "strength": rounded(memory.strength[layer, alive], 9),
                       "reset_tick": memory.reset_tick[layer, alive].tolist(),
                       "retention": rounded(memory.retention()[layer, alive], 9),
                       "last_row_mass": rounded(memory.last_mass[layer, alive], 7)})
    events = sorted(memory.events, key=lambda event: (event["step"], event.get("layer", 0), event["position"]))
    return {"clock": memory.clock, "forget_events": events, "live_tokens_per_layer": live, "logit_steps": list(logits),
            "layers_at_the_end": layers}


def difference_in_fp32(case: Case, memory: MaskedMemory, logits: dict, ids: list[int]) -> tuple[float, ...]:
    """Runs the case again in fp32: decisions must be the same. Returns the drift of logits, strengths and masses."""
    again, rough, _ = run(case, TinyModel(case.model, np.float32), ids)
    assert again.events == memory.events and (again.reset_tick == memory.reset_tick).all(), case.name
    drift = max(float(np.abs(rough[step] - logits[step]).max()) for step in logits)
    near = memory.last_mass > 0.5 * memory.p.reset_threshold  # small masses decide nothing
    mass = np.abs(again.last_mass[near] / memory.last_mass[near] - 1).max(initial=0)
    return drift, float(np.abs(again.strength - memory.strength).max()), float(mass)


def main() -> None:
    shutil.rmtree(HERE / "cases", ignore_errors=True)
    (HERE / "cases").mkdir()
    models = {name: TinyModel(name) for name in sorted({case.model for case in CASES})}
    for name in models:
        print(f"{name}: at most {check_against_the_library(name):.1e} from the library's logits")
    tensors = {}
    for case in CASES:
        model = models[case.model]
        for seed in range(1, 2000):
            rng = np.random.Generator(np.random.PCG64(seed))
            ids = rng.integers(0, model.vocabulary_size, case.prompt + case.steps).tolist()
            memory, logits, live = run(case, model, ids)
            if is_clear(case, memory):
                break
        else:
            sys.exit(f"{case.name}: no seed gives clear decisions")
        drift = difference_in_fp32(case, memory, logits, ids)
        tensors[case.name] = np.stack(list(logits.values())).astype(np.float32)
        effective = dataclasses.asdict(memory.p) if case.mode != BASELINE else {}
        (HERE / "cases" / f"{case.name}.json").write_text(json.dumps({
            "name": case.name, "model": case.model, "generation_mode": case.mode, "memory": case.memory,
            "effective": effective, "seed": seed, "prompt_ids": ids[:case.prompt], "fed_ids": ids[case.prompt:],
            "expected": expectation(memory, logits, live)}, separators=(",", ":")) + "\n")
        margins = memory.margins
        expired = sum(event["votes"] > 0 for event in memory.events)  # the rest went for the budget alone
        print(f"{case.name:52} seed {seed:3}  forgotten {len(memory.events):4} (voted {expired:3})  "
              f"resets {memory.resets:5}  live {memory.live.sum(axis=1).tolist()}  margins {margins.reset:.0e} {margins.vote:.0e} {margins.order:.0e}"
              f"  fp32 drift {drift[0]:.0e} {drift[1]:.0e} {drift[2]:.0e}", flush=True)
    save_file(tensors, HERE / "logits.safetensors")


if __name__ == "__main__":
    main()
