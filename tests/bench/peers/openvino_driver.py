#!/usr/bin/env python3
"""OpenVINO GenAI on orders (protocol.py), with its defaults: K/V in 8 bits, activations quantized.

  openvino_driver.py MODEL.gguf THREADS [KEPT_TOKENS]      KEPT_TOKENS: its own cache eviction, down to so many
"""
import sys

import numpy as np
import openvino as ov
import openvino_genai

import protocol

CACHE_GIB = 2
CHUNK_TOKENS = 512  # of a prompt in one pass
START_AND_RECENT_TOKENS = 32
FIRST_ID, LAST_ID = 300, 40000


class OpenVino:
    def __init__(self, path, threads, kept):
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GIB
        scheduler.max_num_batched_tokens = CHUNK_TOKENS
        scheduler.max_num_seqs = 64
        scheduler.enable_prefix_caching = False
        if kept:
            scheduler.use_cache_eviction = True
            scheduler.cache_eviction_config = openvino_genai.CacheEvictionConfig(
                START_AND_RECENT_TOKENS, START_AND_RECENT_TOKENS, kept, openvino_genai.AggregationMode.NORM_SUM)
        self.kept = kept
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(path, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads})
        self.random = np.random.default_rng(1)
        self.requests = []
        self.last_id = 0

    def add(self, context, new_tokens):
        config = openvino_genai.GenerationConfig()
        config.ignore_eos, config.do_sample, config.max_new_tokens = True, False, new_tokens
        prompt = ov.Tensor(self.random.integers(FIRST_ID, LAST_ID, (1, context)).astype(np.int64))
        self.last_id += 1
        self.requests.append(self.pipeline.add_request(self.last_id, prompt, config))

    def prefill(self, tokens):
        self.add(tokens, 1)
        while not self.requests[0].can_read():
            self.step()
        self.close()

    def open(self, batch, context, steps, live):
        if live != self.kept:
            raise ValueError("started to keep %s tokens, not %s" % (self.kept, live))
        # Those whose prompt is read first decode while the others' are.
        spare = batch * (context // CHUNK_TOKENS + 2) + 4
        for _ in range(batch):
            self.add(context, steps + spare)
        waiting = list(self.requests)
        while waiting:
            self.step()
            waiting = [request for request in waiting if not request.can_read()]
        for _ in range(3):
            self.step()

    def step(self):
        self.pipeline.step()

    def close(self):
        for request in self.requests:
            request.cancel()
        while self.pipeline.has_non_finished_requests():
            self.step()
        self.requests = []


if __name__ == "__main__":
    protocol.serve(OpenVino(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None))
