// Filters about HTML and URLs.
#include <algorithm>
#include <cctype>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/markup.h"
#include "server/jinja/printing.h"

namespace ebbinghaus::jinja {
namespace {

using Result = absl::StatusOr<Value>;

absl::StatusOr<Text> EscapedOf(const Value& value, Runtime& runtime) {
  if (value.text()) {
    if (!runtime.budget.SpendText(5 * value.text()->size())) return runtime.budget.status();
    return Escape(*value.text());
  }
  EBB_ASSIGN_OR_RETURN(const Text text, Str(value, runtime.budget));
  return Escape(text);
}

Result DoEscape(const Value& input, Bound, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(Text text, EscapedOf(input, runtime));
  return Value(std::move(text));
}

Result ForceEscape(const Value& input, Bound, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text text, Str(input, runtime.budget));
  return Value(Escape(text));
}

Result Safe(const Value& input, Bound, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text text, Str(input, runtime.budget));
  return Value(text.WithMarkup(true));
}

Result DoStripTags(const Value& input, Bound, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text text, Str(input, runtime.budget));
  EBB_ASSIGN_OR_RETURN(Text plain, StripTags(text, runtime.budget));
  return Value(std::move(plain));
}

void Quote(const Text& text, bool for_query, Text& out) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text.bytes()[i]);
    const bool kept = std::isalnum(c) || c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !for_query);
    if (kept) out.Append(text, i, i + 1);
    else if (c == ' ' && for_query) out.Append("+", text.marked(i));
    else out.Append(std::string{'%', kHex[c >> 4], kHex[c & 15]}, text.marked(i));
  }
}

Result UrlEncode(const Value& input, Bound, Runtime& runtime) {
  Text out;
  if (input.text() || input.none() || input.number()) {
    EBB_ASSIGN_OR_RETURN(const Text text, Str(input, runtime.budget));
    if (!runtime.budget.SpendText(3 * text.size())) return runtime.budget.status();
    Quote(text, false, out);
    return Value(std::move(out));
  }
  EBB_ASSIGN_OR_RETURN(const List items, Items(input.dict() ? Value(View{input.dict_nest(), ViewKind::kItems}) : input, runtime));
  for (const Value& item : items) {
    EBB_ASSIGN_OR_RETURN(const List pair, Items(item, runtime));
    if (pair.size() != 2) return Refused("urlencode needs pairs");
    if (!out.empty()) out.Append("&", false);
    for (size_t i = 0; i < 2; ++i) {
      EBB_ASSIGN_OR_RETURN(const Text text, Str(pair[i], runtime.budget));
      if (!runtime.budget.SpendText(out.size() + 3 * text.size() > Budget::kMaxText ? Budget::kMaxText + 1 : 3 * text.size())) return runtime.budget.status();
      if (i == 1) out.Append("=", false);
      Quote(text, true, out);
    }
  }
  return Value(std::move(out));
}

Result XmlAttributes(const Value& input, Bound a, Runtime& runtime) {
  if (!input.dict()) return Refused(absl::StrCat("xmlattr needs a mapping, not ", input.TypeName()));
  Text out;
  for (const auto& [key, value] : input.dict()->entries()) {
    if (value.none() || value.undefined()) continue;
    EBB_ASSIGN_OR_RETURN(const Text* name, TextArgument(key, "key"));
    if (name->bytes().find_first_of(" \t\n\r\f\v/>=") != std::string::npos) return Refused("xmlattr: invalid character in attribute name");
    EBB_ASSIGN_OR_RETURN(const Text content, EscapedOf(value, runtime));
    if (!runtime.budget.SpendText(out.size() + content.size() > Budget::kMaxText ? Budget::kMaxText + 1 : name->size())) return runtime.budget.status();
    if (!out.empty()) out.Append(" ", false);
    out.Append(Escape(*name));
    out.Append("=\"", false);
    out.Append(content);
    out.Append("\"", false);
  }
  if ((a[0] == nullptr || a[0]->Truth()) && !out.empty()) {
    Text spaced(" ");
    spaced.Append(out);
    return Value(std::move(spaced));
  }
  return Value(std::move(out));
}

Result Urlize(const Value&, Bound, Runtime&) { return Refused("the filter 'urlize' is not supported"); }

}  // namespace

absl::Span<const Filter> MarkupFilters() {
  static const Filter kFilters[] = {
      {"escape", {"/"}, DoEscape}, {"e", {"/"}, DoEscape}, {"forceescape", {}, ForceEscape}, {"safe", {}, Safe},
      {"striptags", {}, DoStripTags}, {"urlencode", {}, UrlEncode}, {"xmlattr", {"autospace"}, XmlAttributes},
      {"urlize", {"trim_url_limit,nofollow,target,rel,extra_schemes"}, Urlize}};
  return kFilters;
}

}  // namespace ebbinghaus::jinja
