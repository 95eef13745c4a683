#include "client/prompt.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "client/utf8.h"

namespace ebbinghaus::client {
namespace {

// Far above what a server takes (ours: 16 MiB, or what fits the context), which says so itself; this only keeps an
// endless input from filling our memory.
constexpr size_t kMaxPromptBytes = 64u << 20;

std::string ReadAll(std::istream& in) {
  std::string text;
  char chunk[1 << 16];
  while (text.size() <= kMaxPromptBytes && (in.read(chunk, sizeof(chunk)) || in.gcount() > 0)) {
    text.append(chunk, static_cast<size_t>(in.gcount()));
  }
  return text;
}

absl::StatusOr<std::string> ReadSource(const Options& options, Console& console) {
  if (options.prompt) return *options.prompt;
  std::string text;
  if (!options.prompt_file || *options.prompt_file == "-") {
    if (console.in_is_terminal)
      console.err << "Reading the prompt; end it with Ctrl-D." << std::endl;
    text = ReadAll(console.in);
  } else {
    std::ifstream file(*options.prompt_file, std::ios::binary);
    if (file) text = ReadAll(file);
    if (!file.is_open() || file.bad()) {
      return absl::NotFoundError(
          absl::StrCat("cannot read ", *options.prompt_file, ": ", std::strerror(errno)));
    }
  }
  if (!options.raw && !text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

template <typename Request>
void SetInput(const Options& options, const std::string& prompt, Request& request) {
  if (options.raw) {
    request.set_text(prompt);
    return;
  }
  const auto add = [&](const char* role, const std::string& content) {
    v1::Message* message = request.mutable_chat()->add_messages();
    message->set_role(role);
    message->set_content(content);
  };
  if (options.system) add("system", *options.system);
  add("user", prompt);
}

}  // namespace

absl::StatusOr<std::string> ReadPrompt(const Options& options, Console& console) {
  absl::StatusOr<std::string> text = ReadSource(options, console);
  if (!text.ok()) return text;
  if (text->empty()) return absl::InvalidArgumentError("the prompt is empty");
  if (text->size() > kMaxPromptBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the prompt is longer than ", kMaxPromptBytes, " bytes"));
  }
  // Protobuf would send it and the server could not read the whole request.
  const std::string all = absl::StrCat(*text, options.system.value_or(""));
  if (const size_t at = FindInvalidUtf8(all); at != all.npos) {
    return absl::InvalidArgumentError(absl::StrCat("the prompt is not valid UTF-8 at byte ", at));
  }
  return text;
}

v1::GenerateRequest BuildGenerateRequest(const Options& options, const std::string& prompt) {
  v1::GenerateRequest request;
  SetInput(options, prompt, request);
  if (options.mode) request.set_generation_mode(*options.mode);
  if (options.sampling.ByteSizeLong() > 0) *request.mutable_sampling() = options.sampling;
  if (options.memory.ByteSizeLong() > 0) *request.mutable_memory() = options.memory;
  if (options.max_tokens) request.set_max_new_tokens(*options.max_tokens);
  if (options.ignore_eos) request.set_ignore_eos(*options.ignore_eos);
  return request;
}

v1::TokenizeRequest BuildTokenizeRequest(const Options& options, const std::string& prompt) {
  v1::TokenizeRequest request;
  SetInput(options, prompt, request);
  return request;
}

}  // namespace ebbinghaus::client
