#include "server/engine/engine.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <unordered_map>
#include <utility>

#include <c10/core/InferenceMode.h>

#include "absl/strings/str_cat.h"
#include "server/base/host_memory.h"
#include "server/base/retry.h"
#include "server/base/status_macros.h"
#include "server/cache/page_pool.h"
#include "server/engine/kv_memory.h"
#include "server/engine/load_decoder.h"
#include "server/engine/prefix_cache.h"
#include "server/engine/sequence.h"
#include "server/model/decoder.h"

namespace ebbinghaus::engine {
namespace {

using base::SequenceId;

class DecoderEngine final : public base::Engine {
 public:
  DecoderEngine(base::ModelInfo info, std::unique_ptr<model::Decoder> decoder, uint64_t kv_memory_bytes,
                const EngineOptions& options)
      : info_(std::move(info)),
        state_allowance_(options.state_allowance_bytes),
        decoder_(std::move(decoder)),
        pool_(decoder_->page_shape(), kv_memory_bytes) {
    if (options.prefix_cache) prefixes_.emplace(&pool_, static_cast<uint32_t>(decoder_->config().layers));
  }

  const base::ModelInfo& model() const override { return info_; }

  // Sequences reserve what they need at most, shared pages included; so what the prefix cache holds beside them can always
  // be reclaimed in time, and it is no reason to refuse anybody.
  absl::StatusOr<SequenceId> Add(const base::SequenceSpec& spec) override {
    const uint64_t needed = Sequence::PagesNeeded(spec, decoder_->config(), pool_.shape());
    const uint64_t state = Sequence::StateBytes(spec, decoder_->config());
    if (needed + PagesForState(state) > pool_.capacity_pages()) {
      return base::NeverFits(absl::ResourceExhaustedError(absl::StrCat(
          "K/V memory: the request may need ", needed * pool_.shape().page_bytes(), " bytes, which is more than the server's ",
          kv_capacity_bytes(), "; lower max_new_tokens, shorten the prompt, set memory.max_live_tokens in sparse_attention, "
          "or start the server with a larger --kv-memory")));
    }
    if (reserved_pages_ + needed + PagesForState(state_bytes_ + state) > pool_.capacity_pages()) {
      const uint64_t reserved = std::min(reserved_pages_ + PagesForState(state_bytes_), pool_.capacity_pages());
      return absl::ResourceExhaustedError(
          absl::StrCat("K/V memory: the request may need ", needed * pool_.shape().page_bytes(), " bytes, free are ",
                       (pool_.capacity_pages() - reserved) * pool_.shape().page_bytes(), " of ",
                       kv_capacity_bytes()));
    }
    auto sequence = std::make_unique<Sequence>(spec, decoder_.get(), &pool_, prefixes_ ? &*prefixes_ : nullptr);
    const SequenceId id{++last_id_};
    sequences_.emplace(id, std::move(sequence));
    reserved_pages_ += needed;
    state_bytes_ += state;
    return id;
  }

  std::vector<base::StepOutcome> Step(const std::vector<base::StepItem>& plan) override {
    const c10::InferenceMode inference;
    std::vector<base::StepOutcome> outcomes(plan.size());
    std::vector<model::Segment> segments(plan.size());
    for (size_t i = 0; i < plan.size(); ++i) {
      outcomes[i].sequence = plan[i].sequence;
      segments[i] = sequences_.at(plan[i].sequence)->Begin(plan[i].prompt_tokens, outcomes[i].forgotten);
    }
    Forward(absl::MakeSpan(segments));
    for (size_t i = 0; i < plan.size(); ++i) {
      absl::StatusOr<std::optional<base::SampledToken>> token = sequences_.at(plan[i].sequence)->End(std::move(segments[i]));
      outcomes[i].status = token.status();
      if (token.ok()) outcomes[i].token = *std::move(token);
      outcomes[i].report_time = sequences_.at(plan[i].sequence)->report_time();
    }
    return outcomes;
  }

  base::MemoryStats Stats(SequenceId sequence) const override { return sequences_.at(sequence)->Stats(); }
  base::TokenWeights Weights(SequenceId sequence, uint32_t layer, base::Position begin,
                             base::Position end) const override {
    return sequences_.at(sequence)->TokenWeights(layer, begin, end);
  }

  void Remove(SequenceId sequence) override {
    const auto found = sequences_.find(sequence);
    if (found == sequences_.end()) return;
    found->second->KeepPristinePages();
    reserved_pages_ -= found->second->reserved_pages();
    state_bytes_ -= found->second->state_bytes();
    sequences_.erase(found);
  }

  uint32_t cached_prompt_tokens(SequenceId sequence) const override {
    return sequences_.at(sequence)->cached_prompt_tokens();
  }

  uint64_t kv_used_bytes(SequenceId sequence) const override { return sequences_.at(sequence)->kv_bytes(); }
  uint64_t kv_used_bytes() const override { return pool_.used_bytes(); }
  uint64_t kv_used_bytes(base::GenerationMode mode) const override { return pool_.used_bytes(Sequence::AccountOf(mode)); }
  uint64_t kv_cached_bytes() const override { return pool_.cached_bytes(); }
  uint64_t kv_capacity_bytes() const override { return pool_.capacity_bytes(); }
  void DropCachedPrompts() override {
    while (prefixes_ && prefixes_->DropLeastRecentlyUsed()) {
    }
  }

 private:
  // What the sequences need beside K/V has a part of the workspace; K/V makes room for what goes beyond.
  uint64_t PagesForState(uint64_t bytes) const {
    const uint64_t beyond = bytes > state_allowance_ ? bytes - state_allowance_ : 0;
    return (beyond + pool_.shape().page_bytes() - 1) / pool_.shape().page_bytes();
  }

  // libtorch reports by exceptions; they end a sequence, not the process.
  void Forward(absl::Span<model::Segment> segments) {
    if (decoder_->batches()) return decoder_->Forward(segments);
    for (model::Segment& segment : segments) {
      try {
        decoder_->Forward(absl::MakeSpan(&segment, 1));
      } catch (const std::exception& error) {
        segment.status = absl::InternalError(absl::StrCat("the step failed: ", error.what()));
      }
    }
  }

  struct HashId {
    size_t operator()(SequenceId id) const { return std::hash<uint64_t>()(static_cast<uint64_t>(id)); }
  };

  const base::ModelInfo info_;
  const uint64_t state_allowance_;
  const std::unique_ptr<model::Decoder> decoder_;
  cache::PagePool pool_;  // outlives what holds its pages
  std::optional<PrefixCache> prefixes_;
  std::unordered_map<SequenceId, std::unique_ptr<Sequence>, HashId> sequences_;
  uint64_t reserved_pages_ = 0;
  uint64_t state_bytes_ = 0;  // of all sequences, at most
  uint64_t last_id_ = 0;
};

// What K/V may take beside so many bytes of weights. Errors: those of KvMemoryBytes.
absl::StatusOr<uint64_t> KvMemory(const EngineOptions& options, const model::ModelConfig& config, uint64_t weight_bytes,
                                  const cache::PageShape& page) {
  const uint64_t limit = options.memory_limit_bytes != 0 ? options.memory_limit_bytes : base::MemoryLimitBytes();
  return KvMemoryBytes(options.kv_memory_bytes, limit, weight_bytes, page.page_bytes() * static_cast<uint64_t>(config.layers));
}

absl::StatusOr<uint32_t> ContextLimit(const model::ModelConfig& config, uint32_t max_context) {
  if (max_context > config.context) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-context ", max_context, " is larger than the model's context of ", config.context, " tokens"));
  }
  return max_context == 0 ? config.context : max_context;
}

}  // namespace

absl::StatusOr<std::unique_ptr<base::Engine>> MakeEngine(const model::Checkpoint& checkpoint,
                                                         const EngineOptions& options) {
  const c10::InferenceMode inference;
  try {
    // Before the weights are read, which takes a while.
    EBB_RETURN_IF_ERROR(ContextLimit(checkpoint.config(), options.max_context).status());
    const auto check = [&](uint64_t weight_bytes, const cache::PageShape& page) {
      return KvMemory(options, checkpoint.config(), weight_bytes, page).status();
    };
    EBB_ASSIGN_OR_RETURN(LoadedDecoder loaded, LoadDecoder(checkpoint, options, check));
    return MakeEngine(std::move(loaded), options);
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("loading the weights failed: ", error.what()));
  }
}

absl::Status CheckEngine(const model::Checkpoint& checkpoint, const EngineOptions& options) try {
  EBB_RETURN_IF_ERROR(ContextLimit(checkpoint.config(), options.max_context).status());
  // All that can be refused before the weights are read has been by the time memory is asked about.
  std::optional<absl::Status> memory;
  const auto check = [&](uint64_t weight_bytes, const cache::PageShape& page) {
    memory = KvMemory(options, checkpoint.config(), weight_bytes, page).status();
    return absl::CancelledError("only checking");
  };
  const absl::Status loading = LoadDecoder(checkpoint, options, check).status();
  return memory.value_or(loading);
} catch (const std::exception& error) {
  return absl::InternalError(error.what());
}

absl::StatusOr<std::unique_ptr<base::Engine>> MakeEngine(LoadedDecoder loaded, const EngineOptions& options) {
  const model::ModelConfig& config = loaded.decoder->config();
  EBB_ASSIGN_OR_RETURN(const uint32_t context, ContextLimit(config, options.max_context));
  const uint64_t weight_bytes = loaded.decoder->weight_bytes();
  const cache::PageShape shape = loaded.decoder->page_shape();
  EBB_ASSIGN_OR_RETURN(const uint64_t kv_memory, KvMemory(options, config, weight_bytes, shape));
  base::ModelInfo info{
      .name = options.model_name.empty() ? config.name : options.model_name,
      .architecture = std::string(model::Name(config.architecture)),
      .vocabulary_size = static_cast<uint32_t>(config.vocabulary),
      .context_tokens = context,
      .layers = static_cast<uint32_t>(config.layers),
      .query_heads = static_cast<uint32_t>(config.query_heads),
      .kv_heads = static_cast<uint32_t>(config.kv_heads),
      .head_size = static_cast<uint32_t>(config.head_size),
      .weights = loaded.weights,
      .kv = loaded.kv,
      .engine = loaded.engine,
      .weight_bytes = weight_bytes,
      .kv_bytes_per_token = shape.page_bytes() / shape.page_tokens * config.layers,
  };
  return std::make_unique<DecoderEngine>(std::move(info), std::move(loaded.decoder), kv_memory, options);
}

}  // namespace ebbinghaus::engine
