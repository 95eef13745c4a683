#include "server/text/control_texts.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/ascii.h"

namespace ebbinghaus::text {
namespace {

constexpr std::string_view kEnds[] = {"<|eot_id|>",
                                      "<|eom_id|>",
                                      "<|eot|>",
                                      "<|eom|>",
                                      "<|im_end|>",
                                      "<|end|>",
                                      "<|end_of_turn|>",
                                      "<|end_of_text|>",
                                      "<|endoftext|>",
                                      "<|return|>",
                                      "<|call|>",
                                      "<|END_OF_TURN_TOKEN|>",
                                      "[|endofturn|]",
                                      "<end_of_turn>",
                                      "<end_of_utterance>",
                                      "<turn|>",
                                      "<\uff5cend\u2581of\u2581sentence\uff5c>"};
constexpr std::string_view kEndsIfControl[] = {"</s>", "<eos>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]"};

bool IsIn(const std::string_view* begin, const std::string_view* end, std::string_view token) {
  return std::find(begin, end, token) != end;
}

}  // namespace

bool IsEndOfTurn(std::string_view token) {
  return IsIn(std::begin(kEnds), std::end(kEnds), token);
}

bool IsEndOfTurnIfControl(std::string_view token) {
  return IsIn(std::begin(kEndsIfControl), std::end(kEndsIfControl), token);
}

bool LooksLikeControl(std::string_view token) {
  if (token.size() < 5 || token.substr(0, 2) != "<|" || token.substr(token.size() - 2) != "|>") {
    return IsEndOfTurn(token) || token == "<start_of_turn>";
  }
  const std::string_view name = token.substr(2, token.size() - 4);
  return std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == ':';
  });
}

}  // namespace ebbinghaus::text
