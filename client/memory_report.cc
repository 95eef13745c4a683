#include "client/memory_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/table.h"

namespace ebbinghaus::client {

std::string FormatBytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string MemorySummary(const v1::MemoryStats& stats) {
  return absl::StrFormat(
      "memory: %d of %d tokens live, %d forgotten (%d forget events); K/V %s, peak %s, baseline "
      "%s\n",
      stats.live_tokens(), stats.total_tokens(), stats.forgotten_tokens(), stats.forget_events(),
      FormatBytes(stats.kv_bytes()), FormatBytes(stats.kv_peak_bytes()),
      FormatBytes(stats.kv_baseline_bytes()));
}

std::string MemoryTable(const v1::MemoryStats& stats) {
  // A strength is never below initial_strength > 0, so all zero means that there is no state.
  const bool any =
      std::any_of(stats.layers().begin(), stats.layers().end(),
                  [](const v1::LayerMemory& layer) { return layer.max_strength() > 0; });
  if (!any) return "";
  Table table({{"layer"},
               {"live"},
               {"mean strength"},
               {"max strength"},
               {"mean time"},
               {"max time"},
               {"mean retention"}});
  for (const v1::LayerMemory& layer : stats.layers()) {
    table.AddRow({absl::StrCat(layer.layer()), absl::StrCat(layer.live_tokens()),
                  absl::StrFormat("%.3f", layer.mean_strength()),
                  absl::StrFormat("%.3f", layer.max_strength()),
                  absl::StrFormat("%.3f", layer.mean_time()),
                  absl::StrFormat("%.3f", layer.max_time()),
                  absl::StrFormat("%.4f", layer.mean_retention())});
  }
  return table.Render();
}

}  // namespace ebbinghaus::client
