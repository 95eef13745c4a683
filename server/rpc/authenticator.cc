#include "server/rpc/authenticator.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/security/auth_context.h"
#include "grpcpp/server_context.h"

namespace ebbinghaus::rpc {
namespace {

constexpr char kExpected[] = "this server wants metadata `authorization: Bearer SECRET`";

// Requires the scheme, in any case, and a space before the secret.
std::optional<std::string_view> BearerSecret(std::string_view value) {
  constexpr std::string_view kScheme = "bearer ";
  const std::string_view scheme = value.substr(0, kScheme.size());
  if (!absl::EqualsIgnoreCase({scheme.data(), scheme.size()}, {kScheme.data(), kScheme.size()})) return std::nullopt;
  value.remove_prefix(kScheme.size());
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  return value;
}

absl::StatusOr<std::string> NameOfToken(const TokenStore& tokens, const grpc::ServerContextBase& context) {
  const auto [begin, end] = context.client_metadata().equal_range("authorization");
  if (begin == end) return absl::UnauthenticatedError(kExpected);
  if (std::next(begin) != end) return absl::UnauthenticatedError("`authorization` is there more than once");
  const auto secret = BearerSecret({begin->second.data(), begin->second.size()});
  if (!secret) return absl::UnauthenticatedError(absl::StrCat(kExpected, ", and has another `authorization`"));
  std::optional<std::string> name = tokens.Find(*secret);
  if (!name) return absl::UnauthenticatedError("the token is not one that this server knows");
  return *std::move(name);
}

std::string NameOfCertificate(const grpc::ServerContextBase& context) {
  const std::shared_ptr<const grpc::AuthContext> peer = context.auth_context();
  if (peer == nullptr || !peer->IsPeerAuthenticated()) return "";
  const std::vector<grpc::string_ref> names = peer->GetPeerIdentity();
  return names.empty() ? "" : std::string(names[0].data(), names[0].size());
}

}  // namespace

absl::StatusOr<std::string> Authenticator::Identify(const grpc::ServerContextBase& context) const {
  if (tokens_ == nullptr) return NameOfCertificate(context);
  absl::StatusOr<std::string> name = NameOfToken(*tokens_, context);
  if (!name.ok() && metrics_ != nullptr) metrics_->RequestRejected(metrics::Rejection::kUnauthenticated);
  return name;
}

}  // namespace ebbinghaus::rpc
