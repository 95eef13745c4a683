#include "server/text/tokenizer_decoder.h"

#include <charconv>
#include <optional>
#include <utility>

#include "server/text/tokenizer_definition.h"
#include "server/text/tokenizer_strings.h"

namespace ebbinghaus::text {
namespace {

// The byte that <0xXX> stands for.
std::optional<char> FallbackByte(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return std::nullopt;
  unsigned byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  if (error != std::errc() || end != token.data() + 5) return std::nullopt;
  return static_cast<char>(byte);
}

std::string Apply(const ReplaceRule& rule, std::string token, bool) {
  if (const auto* text = std::get_if<std::string>(&rule.pattern)) {
    return ReplaceAll(token, *text, rule.content);
  }
  std::vector<TextRange> matches;
  std::get<Regex>(rule.pattern).FindAll(token, matches);
  std::string out;
  size_t at = 0;
  for (const TextRange& match : matches) {
    out.append(token, at, match.begin - at);
    out += rule.content;
    at = match.end;
  }
  return out.append(token, at);
}

std::string Apply(const StripRule& rule, std::string token, bool) {
  const std::string& c = rule.ends.character;
  size_t begin = 0, end = token.size();
  for (uint32_t i = 0; i < rule.ends.at_start && token.compare(begin, c.size(), c) == 0; ++i) {
    begin += c.size();
  }
  for (uint32_t i = 0; i < rule.ends.at_end && end >= begin + c.size(); ++i) {
    if (token.compare(end - c.size(), c.size(), c) != 0) break;
    end -= c.size();
  }
  return token.substr(begin, end - begin);
}

std::string Apply(const MetaspaceRule& rule, std::string token, bool first) {
  return ReplaceAll(token, rule.replacement, first && rule.drop_first ? "" : " ");
}

// What the reference tidies in English, token by token.
std::string Cleanup(std::string token) {
  constexpr std::pair<std::string_view, std::string_view> kChanges[] = {
      {" .", "."},      {" ?", "?"},     {" !", "!"},     {" ,", ","},    {" ' ", "'"},
      {" n't", "n't"},  {" 'm", "'m"},   {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"},
      {" 're", "'re"}};
  for (const auto& [from, to] : kChanges) token = ReplaceAll(token, from, to);
  return token;
}

std::string Apply(const WordPieceRule& rule, std::string token, bool first) {
  if (!first) {
    if (token.compare(0, rule.prefix.size(), rule.prefix) == 0) {
      token.erase(0, rule.prefix.size());
    } else {
      token.insert(0, " ");
    }
  }
  return rule.cleanup ? Cleanup(std::move(token)) : token;
}

// The space at the end of a text is taken away: DecoderRules::ends.
std::string Apply(const WordEndRule& rule, std::string token, bool) {
  return ReplaceAll(token, rule.suffix, " ");
}

std::string Apply(const SpaceBetweenRule&, std::string token, bool first) {
  return first ? token : " " + token;
}

}  // namespace

std::string DecoderRules::Text(std::string_view spelled, bool first) const {
  std::string token(spelled);
  for (size_t i = 0; i <= rules.size(); ++i) {
    if (i == fallback_at) {
      if (const auto byte = FallbackByte(token)) return std::string(1, *byte);
    }
    if (i == rules.size()) break;
    token = std::visit([&](const auto& rule) { return Apply(rule, std::move(token), first); },
                       rules[i]);
  }
  if (byte_level) return BytesOfByteLevel(token).value_or(token);
  return token;
}

bool DecoderRules::MindsFirst() const {
  for (const TokenRule& rule : rules) {
    const auto* metaspace = std::get_if<MetaspaceRule>(&rule);
    if (metaspace != nullptr && metaspace->drop_first) return true;
    if (std::holds_alternative<WordPieceRule>(rule)) return true;
    if (std::holds_alternative<SpaceBetweenRule>(rule)) return true;
  }
  return false;
}

bool DecoderRules::PutsSpaces() const {
  for (const TokenRule& rule : rules) {
    if (std::holds_alternative<WordPieceRule>(rule)) return true;
    if (std::holds_alternative<SpaceBetweenRule>(rule)) return true;
  }
  return false;
}

}  // namespace ebbinghaus::text
