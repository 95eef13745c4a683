// Where the prompt comes from, and the requests it goes into.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "client/console.h"
#include "client/options.h"
#include "ebbinghaus/v1/inference.pb.h"

namespace ebbinghaus::client {

// The prompt from --prompt, the file, or standard input. For a chat the newline that ends a file is
// left out; a raw prompt stays as it is. Errors: InvalidArgument (not UTF-8, empty), NotFound (no
// such file).
absl::StatusOr<std::string> ReadPrompt(const Options& options, Console& console);

// The request that the options describe. Without a mode, the mode is the server's and the memory
// parameters go along as they are.
v1::GenerateRequest BuildGenerateRequest(const Options& options, const std::string& prompt);

v1::TokenizeRequest BuildTokenizeRequest(const Options& options, const std::string& prompt);

}  // namespace ebbinghaus::client
