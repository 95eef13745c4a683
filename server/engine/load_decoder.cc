#include "server/engine/load_decoder.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/engine/device.h"
#include "server/kernels/kernels.h"
#include "server/model/packed_decoder.h"
#include "server/model/reference_decoder.h"

namespace ebbinghaus::engine {
namespace {

using model::WeightChoice;

absl::StatusOr<WeightChoice> ParseWeights(const std::string& name) {
  if (name == "auto") return WeightChoice::kAuto;
  if (name == "f32") return WeightChoice::kF32;
  if (name == "bf16") return WeightChoice::kBf16;
  if (name == "int8") return WeightChoice::kInt8;
  if (name == "int4") return WeightChoice::kInt4;
  return absl::InvalidArgumentError(absl::StrCat("--weights ", name, ": must be auto, f32, bf16, int8 or int4"));
}

// auto: fp32 beside fp32 weights, where somebody asked for exactness; else bf16.
absl::StatusOr<kernels::KvForm> ParseKv(const std::string& name, WeightChoice weights) {
  if (name == "auto") return weights == WeightChoice::kF32 ? kernels::KvForm::kF32 : kernels::KvForm::kBf16;
  for (const kernels::KvForm form : {kernels::KvForm::kF32, kernels::KvForm::kBf16, kernels::KvForm::kInt8}) {
    if (name == kernels::Name(form)) return form;
  }
  return absl::InvalidArgumentError(absl::StrCat("--kv ", name, ": must be auto, f32, bf16 or int8"));
}

absl::StatusOr<const kernels::KernelTable*> ParseKernels(const std::string& name) {
  const std::optional<kernels::Target> target = kernels::ChooseTarget(name == "auto" ? "" : name);
  if (target) return kernels::KernelsFor(*target);
  return absl::InvalidArgumentError(
      absl::StrCat("--kernels ", name, ": this processor or build has no such kernels; must be auto, portable, avx2 or avx512"));
}

absl::StatusOr<LoadedDecoder> LoadPacked(const model::Checkpoint& checkpoint, const EngineOptions& options,
                                         const model::MemoryCheck& memory_check) {
  model::PackedOptions packed;
  EBB_ASSIGN_OR_RETURN(packed.weights, ParseWeights(options.weights));
  EBB_ASSIGN_OR_RETURN(packed.kv, ParseKv(options.kv, packed.weights));
  EBB_ASSIGN_OR_RETURN(packed.kernels, ParseKernels(options.kernels));
  packed.threads = options.threads;
  packed.progress = options.progress;
  packed.memory_check = memory_check;
  EBB_ASSIGN_OR_RETURN(std::unique_ptr<model::PackedDecoder> decoder, model::PackedDecoder::Load(checkpoint, packed));
  LoadedDecoder loaded;
  loaded.weights = decoder->weights().form_name();
  loaded.kv = std::string(kernels::Name(packed.kv));
  loaded.engine = absl::StrCat("packed (", std::string(packed.kernels->name), ")");
  loaded.decoder = std::move(decoder);
  return loaded;
}

absl::StatusOr<LoadedDecoder> LoadReference(const model::Checkpoint& checkpoint, const EngineOptions& options,
                                            c10::Device device, const model::MemoryCheck& memory_check) {
  if (options.deterministic) {
    return absl::InvalidArgumentError(
        "--deterministic: the reference engine's operations do not promise it; use --engine packed");
  }
  EBB_ASSIGN_OR_RETURN(const Placement placement, ChoosePlacement(device, options.weights, options.kv));
  EBB_ASSIGN_OR_RETURN(const kernels::KernelTable* kernels, ParseKernels(options.kernels));
  LoadedDecoder loaded;
  EBB_ASSIGN_OR_RETURN(loaded.decoder,
                       model::ReferenceDecoder::Load(
                           checkpoint, {.device = device,
                                        .weights = placement.weights,
                                        .kv = placement.kv,
                                        .kernels = kernels,
                                        .memory_check = memory_check}));
  loaded.weights = FormName(placement.weights);
  loaded.kv = FormName(placement.kv);
  loaded.engine = "reference";
  return loaded;
}

}  // namespace

absl::StatusOr<LoadedDecoder> LoadDecoder(const model::Checkpoint& checkpoint, const EngineOptions& options,
                                          const model::MemoryCheck& memory_check) {
  EBB_ASSIGN_OR_RETURN(const c10::Device device, ChooseDevice(options.device));
  SetComputeThreads(options.threads);
  if (options.engine == "reference" || (options.engine == "auto" && !device.is_cpu())) {
    return LoadReference(checkpoint, options, device, memory_check);
  }
  if (options.engine != "packed" && options.engine != "auto") {
    return absl::InvalidArgumentError(absl::StrCat("--engine ", options.engine, ": must be packed or reference"));
  }
  if (!device.is_cpu()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--engine packed runs on the CPU only; use --device cpu, or --engine reference for ", options.device));
  }
  return LoadPacked(checkpoint, options, memory_check);
}

}  // namespace ebbinghaus::engine
