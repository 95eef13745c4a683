#include "server/text/tokenizer.h"

#include <array>
#include <charconv>
#include <utility>

#include "server/text/text_stream.h"
#include "server/text/tokenizer_definition.h"
#include "server/text/tokenizer_strings.h"
#include "server/text/unicode.h"

namespace ebbinghaus::text {
namespace {

using base::TokenId;

constexpr size_t kMaxAddedTokenBytes = 4096;  // keeps looking for them linear
constexpr size_t kMaxAddedTokensBytes = size_t{4} << 20;

// GPT-2's alphabet: printable bytes of Latin-1 stand for themselves, the other bytes, in their
// order, for the characters from U+0100 on. By code point: the byte, or -1.
std::array<int16_t, 0x144> MakeByteAlphabet() {
  std::array<int16_t, 0x144> byte_of;
  byte_of.fill(-1);
  int16_t next = 0x100;
  for (int16_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    byte_of[printable ? byte : next++] = byte;
  }
  return byte_of;
}

// The byte that <0xXX> stands for.
std::optional<char> FallbackByte(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return std::nullopt;
  unsigned byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  if (error != std::errc() || end != token.data() + 5) return std::nullopt;
  return static_cast<char>(byte);
}

std::string PieceOf(const DecoderRules& rules, const std::string& spelled) {
  if (rules.byte_level) return BytesOfByteLevel(spelled).value_or(spelled);
  std::string piece = spelled;
  for (const auto& [from, to] : rules.replacements) {
    piece = ReplaceAll(piece, from, to);
  }
  if (rules.byte_fallback) {
    if (const auto byte = FallbackByte(piece)) return std::string(1, *byte);
  }
  return piece;
}

// What an added token is looked for as.
std::string PatternOf(const Normalizer& normalizer, const AddedToken& token) {
  return token.normalized ? normalizer.Run(token.content) : token.content;
}

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(TokenizerDefinition definition);

  std::string_view Piece(TokenId id) const override { return pieces_[id]; }
  bool IsSpecial(TokenId id) const override { return special_[id]; }
  uint32_t size() const override { return static_cast<uint32_t>(pieces_.size()); }
  std::optional<TokenId> bos_token_id() const override { return bos_; }
  bool adds_bos() const override {
    return bos_.has_value() && !prefix_.empty() && prefix_[0] == *bos_;
  }
  LeadingSpace leading_space() const override { return leading_space_; }

 private:
  std::vector<TokenId> DoEncode(absl::Span<const TextSegment> segments, bool add_special_tokens,
                                const EncodeLimits& limits) const override;
  // False: stopped early.
  bool EncodeNormalized(const MarkedText& text, bool at_start, EncodeStop& stop,
                        BpeScratch& scratch, std::vector<TokenId>& out) const;

  std::vector<std::string> pieces_;
  std::vector<bool> special_;
  AddedTokenMatcher raw_added_, normalized_added_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
  std::vector<TokenId> prefix_, suffix_;
  std::optional<TokenId> bos_;
  LeadingSpace leading_space_;
};

BpeTokenizer::BpeTokenizer(TokenizerDefinition definition)
    : special_(definition.tokens.size()),
      normalizer_(std::move(definition.normalizer)),
      pre_tokenizer_(std::move(definition.pre_tokenizer)),
      prefix_(std::move(definition.prefix)),
      suffix_(std::move(definition.suffix)),
      bos_(definition.bos),
      leading_space_(definition.decoder.leading_space) {
  const std::vector<std::string>& tokens = definition.tokens;
  std::vector<std::optional<std::string>> texts(tokens.size());
  pieces_.reserve(tokens.size());
  for (TokenId id = 0; id < tokens.size(); ++id) {
    pieces_.push_back(PieceOf(definition.decoder, tokens[id]));
    if (!definition.matchable[id]) continue;
    texts[id] = definition.bpe.byte_level ? BytesOfByteLevel(tokens[id]) : tokens[id];
  }
  for (const AddedToken& token : definition.added) {
    special_[token.id] = token.special;
    const std::string pattern = PatternOf(normalizer_, token);
    (token.normalized ? normalized_added_ : raw_added_).Add(token, pattern);
    // Added tokens are found in the text, so they are spelled plainly, not in the byte alphabet.
    // (The reference decodes them through that alphabet all the same, where they happen to fit.)
    if (token.special) {
      pieces_[token.id] = token.content;
    } else {
      pieces_[token.id] =
          definition.decoder.byte_level ? pattern : PieceOf(definition.decoder, pattern);
    }
  }
  bpe_ = Bpe(texts, definition.merges, definition.bpe);
}

std::vector<TokenId> BpeTokenizer::DoEncode(absl::Span<const TextSegment> segments,
                                            bool add_special_tokens,
                                            const EncodeLimits& limits) const {
  MarkedText text;
  bool mixed = false;
  for (const TextSegment& segment : segments) {
    mixed |= segment.parse_special != segments.front().parse_special;
  }
  if (!segments.empty()) text.all = segments.front().parse_special;
  for (const TextSegment& segment : segments) {
    text.text += ReplaceInvalidUtf8(segment.text);
    if (mixed) text.marks.resize(text.text.size(), segment.parse_special ? '\1' : '\0');
  }

  std::vector<TokenId> ids;
  if (add_special_tokens) ids = prefix_;
  EncodeStop stop(limits);
  BpeScratch scratch;
  for (const AddedTokenMatcher::Part& part : raw_added_.Split(text)) {
    if (stop.Now(ids.size())) return ids;
    if (part.token.has_value()) {
      ids.push_back(*part.token);
    } else if (!EncodeNormalized(normalizer_.Run(text.Part(part.begin, part.end)), part.begin == 0,
                                 stop, scratch, ids)) {
      return ids;
    }
  }
  if (add_special_tokens) ids.insert(ids.end(), suffix_.begin(), suffix_.end());
  return ids;
}

bool BpeTokenizer::EncodeNormalized(const MarkedText& text, bool at_start, EncodeStop& stop,
                                    BpeScratch& scratch, std::vector<TokenId>& out) const {
  for (const AddedTokenMatcher::Part& part : normalized_added_.Split(text)) {
    if (stop.Now(out.size())) return false;
    if (part.token.has_value()) {
      out.push_back(*part.token);
      continue;
    }
    const PreTokenizedText pieces = pre_tokenizer_.Run(
        text.text.substr(part.begin, part.end - part.begin), at_start && part.begin == 0, stop);
    for (const TextRange& piece : pieces.pieces) {
      if (stop.Now(out.size())) return false;
      bpe_.Encode(std::string_view(pieces.text).substr(piece.begin, piece.end - piece.begin), stop,
                  scratch, out);
    }
  }
  return !stop.Now(out.size());
}

}  // namespace

std::vector<TokenId> Tokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  return EncodeSegments({{text, options.parse_special}}, options.add_special_tokens,
                        options.limits);
}

std::vector<TokenId> Tokenizer::EncodeSegments(absl::Span<const TextSegment> segments,
                                               bool add_special_tokens,
                                               const EncodeLimits& limits) const {
  std::vector<TokenId> ids = DoEncode(segments, add_special_tokens, limits);
  if (ids.size() > limits.max_ids) ids.resize(limits.max_ids);
  return ids;
}

std::string Tokenizer::Decode(absl::Span<const TokenId> ids, bool skip_special) const {
  TokenDecoder decoder(this, skip_special);
  std::string text;
  for (const TokenId id : ids) text += decoder.Add(id);
  return text += decoder.Finish();
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> MakeTokenizer(TokenizerDefinition definition) {
  size_t bytes = 0;
  for (const AddedToken& token : definition.added) {
    const size_t size = token.content.size() > kMaxAddedTokenBytes
                            ? token.content.size()
                            : PatternOf(definition.normalizer, token).size();
    bytes += size;
    if (size > kMaxAddedTokenBytes || bytes > kMaxAddedTokensBytes) {
      return absl::InvalidArgumentError(
          "an added token is longer than 4,096 bytes, or all together than 4 MiB");
    }
  }
  return std::make_shared<const BpeTokenizer>(std::move(definition));
}

std::optional<std::string> BytesOfByteLevel(std::string_view spelled) {
  static const std::array<int16_t, 0x144> kByteOf = MakeByteAlphabet();
  std::string bytes;
  for (std::string_view rest = spelled; !rest.empty();) {
    const Utf8Step step = DecodeUtf8(rest);
    if (!step.valid || step.code_point >= kByteOf.size() || kByteOf[step.code_point] < 0) {
      return std::nullopt;
    }
    bytes.push_back(static_cast<char>(kByteOf[step.code_point]));
    rest.remove_prefix(step.size);
  }
  return bytes;
}

SpelledTokens::SpelledTokens(const std::vector<std::string>& tokens) {
  ids_.reserve(tokens.size());
  for (TokenId id = 0; id < tokens.size(); ++id) ids_.emplace(tokens[id], id);
}

TokenId SpelledTokens::Find(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? kNoToken : found->second;
}

absl::StatusOr<BpeMerge> SpelledTokens::Merge(std::string_view left, std::string_view right,
                                              uint32_t rank) const {
  const std::string both = Concat({left, right});
  const BpeMerge merge{Find(left), Find(right), Find(both), rank};
  const std::pair<TokenId, std::string_view> parts[] = {
      {merge.left, left}, {merge.right, right}, {merge.result, both}};
  for (const auto& [id, token] : parts) {
    if (id == kNoToken) {
      return absl::InvalidArgumentError(Concat({"merge ", std::to_string(rank), " needs the token ",
                                                Quoted(token), ", which the vocabulary lacks"}));
    }
  }
  return merge;
}

}  // namespace ebbinghaus::text
