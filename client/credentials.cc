#include "client/credentials.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "grpcpp/security/credentials.h"

namespace ebbinghaus::client {
namespace {

constexpr size_t kMaxFileBytes = 1u << 20;

// An unset file has no content.
absl::StatusOr<std::string> ReadFile(absl::string_view flag, const std::optional<std::string>& path) {
  if (!path) return std::string();
  std::ifstream file(*path, std::ios::binary);
  std::string text(kMaxFileBytes + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  // A folder can be opened, and fails at the first read.
  if (!file.is_open() || file.bad()) {
    return absl::NotFoundError(
        absl::StrCat(flag, ": cannot read ", *path, ": ", std::strerror(errno)));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.empty() || text.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": ", *path, " must have 1 to ", kMaxFileBytes, " bytes"));
  }
  return text;
}

absl::StatusOr<std::string> ReadToken(const std::optional<std::string>& path) {
  absl::StatusOr<std::string> text = ReadFile("--token-file", path);
  if (!text.ok() || text->empty()) return text;
  std::vector<std::string> tokens;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    const std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    tokens.push_back(words.size() <= 2 ? words.back() : "");
  }
  // gRPC would end the program over a header that HTTP cannot carry.
  if (tokens.size() != 1 || tokens[0].empty() ||
      !std::all_of(tokens[0].begin(), tokens[0].end(), absl::ascii_isgraph)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--token-file: ", *path, " must hold one line `SECRET` or `NAME SECRET` of printable ASCII"));
  }
  return tokens[0];
}

}  // namespace

bool IsLocal(const std::string& target) {
  if (absl::StartsWith(target, "unix:")) return true;
  const std::string host = target.substr(0, target.rfind(':'));
  in_addr address = {};
  if (inet_pton(AF_INET, host.c_str(), &address) == 1) return ntohl(address.s_addr) >> 24 == 127;
  return host == "localhost" || host == "[::1]";
}

absl::StatusOr<Credentials> ReadCredentials(const Options& options) {
  Credentials credentials;
  credentials.server_name = options.tls_server_name.value_or("");
  absl::StatusOr<std::string> ca = ReadFile("--tls-ca", options.tls_ca);
  if (!ca.ok()) return ca.status();
  absl::StatusOr<std::string> certificate = ReadFile("--tls-cert", options.tls_cert);
  if (!certificate.ok()) return certificate.status();
  absl::StatusOr<std::string> key = ReadFile("--tls-key", options.tls_key);
  if (!key.ok()) return key.status();
  absl::StatusOr<std::string> token = ReadToken(options.token_file);
  if (!token.ok()) return token.status();
  credentials.token = *std::move(token);
  if (options.tls_ca) {
    credentials.channel = grpc::SslCredentials({*ca, *key, *certificate});
  } else {
    credentials.channel = grpc::InsecureChannelCredentials();
  }
  if (!credentials.token.empty() && !options.tls_ca && !options.allow_insecure_auth &&
      !IsLocal(options.target)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--token-file: the token would cross the network in the clear to ",
                     options.target, "; give --tls-ca, or say --allow-insecure-auth"));
  }
  return credentials;
}

}  // namespace ebbinghaus::client
