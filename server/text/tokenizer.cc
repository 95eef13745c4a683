#include "server/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_set>
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

// What an added token is looked for as.
std::string PatternOf(const Normalizer& normalizer, const AddedToken& token) {
  return token.normalized ? normalizer.Run(token.content) : token.content;
}

using Model = std::variant<Bpe, Unigram, WordPiece>;

// What text is matched with, by id.
std::vector<std::optional<std::string>> MatchedTexts(const TokenizerDefinition& definition) {
  const auto* bpe = std::get_if<BpeDefinition>(&definition.model);
  const bool byte_level = bpe != nullptr && bpe->options.byte_level;
  std::vector<std::optional<std::string>> texts(definition.tokens.size());
  for (TokenId id = 0; id < texts.size(); ++id) {
    const std::string& token = definition.tokens[id];
    if (!definition.matchable[id] || token.empty()) continue;
    texts[id] = byte_level ? BytesOfByteLevel(token) : token;
  }
  return texts;
}

Model MakeModel(TokenizerDefinition& definition) {
  const std::vector<std::optional<std::string>> texts = MatchedTexts(definition);
  std::erase_if(definition.aliases,
                [&](const auto& alias) { return !definition.matchable[alias.second]; });
  if (auto* unigram = std::get_if<UnigramOptions>(&definition.model)) {
    return Unigram(texts, std::move(*unigram));
  }
  if (auto* words = std::get_if<WordPieceOptions>(&definition.model)) {
    return WordPiece(texts, definition.aliases, std::move(*words));
  }
  auto& bpe = std::get<BpeDefinition>(definition.model);
  if (bpe.options.byte_level) {
    for (auto& [text, id] : definition.aliases) text = BytesOfByteLevel(text).value_or("");
  }
  return Bpe(texts, bpe.merges, bpe.options, std::move(bpe.detours), definition.aliases);
}

// Working memory of any model.
struct Scratch {
  BpeScratch bpe;
  UnigramScratch unigram;
};

class PipelineTokenizer final : public Tokenizer {
 public:
  explicit PipelineTokenizer(TokenizerDefinition definition);

  std::string_view Piece(TokenId id) const override { return pieces_[id]; }
  bool IsSpecial(TokenId id) const override { return special_[id]; }
  uint32_t size() const override { return static_cast<uint32_t>(pieces_.size()); }
  std::optional<TokenId> bos_token_id() const override { return bos_; }
  bool adds_bos() const override {
    return bos_.has_value() && !prefix_.empty() && prefix_[0] == *bos_;
  }
  TextEnds text_ends() const override { return ends_; }
  std::string FirstPiece(TokenId id) const override {
    return std::string(first_pieces_.size() == 0 ? pieces_[id] : first_pieces_[id]);
  }

 private:
  std::vector<TokenId> DoEncode(absl::Span<const TextSegment> segments, bool add_special_tokens,
                                const EncodeLimits& limits) const override;
  // False: stopped early.
  bool EncodeNormalized(const MarkedText& text, bool at_start, EncodeStop& stop, Scratch& scratch,
                        std::vector<TokenId>& out) const;
  void EncodePiece(std::string_view piece, EncodeStop& stop, Scratch& scratch,
                   std::vector<TokenId>& out) const;

  TokenTexts pieces_;
  TokenTexts first_pieces_;  // empty where they are the same
  std::vector<bool> special_;
  AddedTokenMatcher raw_added_, normalized_added_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Model model_;
  std::vector<TokenId> prefix_, suffix_;
  std::optional<TokenId> bos_;
  TextEnds ends_;
};

PipelineTokenizer::PipelineTokenizer(TokenizerDefinition definition)
    : special_(definition.tokens.size()),
      normalizer_(std::move(definition.normalizer)),
      pre_tokenizer_(std::move(definition.pre_tokenizer)),
      model_(MakeModel(definition)),
      prefix_(std::move(definition.prefix)),
      suffix_(std::move(definition.suffix)),
      bos_(definition.bos),
      ends_(definition.decoder.ends) {
  const DecoderRules& decoder = definition.decoder;
  std::vector<const AddedToken*> added(definition.tokens.size());
  for (const AddedToken& token : definition.added) {
    added[token.id] = &token;
    special_[token.id] = token.special;
    (token.normalized ? normalized_added_ : raw_added_).Add(token, PatternOf(normalizer_, token));
  }
  const auto text = [&](TokenId id, bool first) -> std::string {
    if (added[id] == nullptr) return decoder.Text(definition.tokens[id], first);
    // Special tokens are named, unless spaces between tokens belong to the text. Other added tokens
    // are spelled plainly, not in the byte alphabet. (The reference decodes them through that
    // alphabet all the same, where they happen to fit.)
    if (added[id]->special && !decoder.PutsSpaces()) return added[id]->content;
    if (decoder.byte_level) return PatternOf(normalizer_, *added[id]);
    return decoder.Text(added[id]->special ? added[id]->content : PatternOf(normalizer_, *added[id]),
                        first);
  };
  pieces_.Reserve(definition.tokens.size());
  for (TokenId id = 0; id < definition.tokens.size(); ++id) pieces_.Add(text(id, false));
  pieces_.ShrinkToFit();
  if (!decoder.MindsFirst()) return;
  first_pieces_.Reserve(definition.tokens.size());
  for (TokenId id = 0; id < definition.tokens.size(); ++id) first_pieces_.Add(text(id, true));
  first_pieces_.ShrinkToFit();
}

std::vector<TokenId> PipelineTokenizer::DoEncode(absl::Span<const TextSegment> segments,
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
  Scratch scratch;
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

bool PipelineTokenizer::EncodeNormalized(const MarkedText& text, bool at_start, EncodeStop& stop,
                                         Scratch& scratch, std::vector<TokenId>& out) const {
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
      EncodePiece(std::string_view(pieces.text).substr(piece.begin, piece.end - piece.begin), stop,
                  scratch, out);
    }
  }
  return !stop.Now(out.size());
}

void PipelineTokenizer::EncodePiece(std::string_view piece, EncodeStop& stop, Scratch& scratch,
                                    std::vector<TokenId>& out) const {
  if (const auto* bpe = std::get_if<Bpe>(&model_)) {
    bpe->Encode(piece, stop, scratch.bpe, out);
  } else if (const auto* unigram = std::get_if<Unigram>(&model_)) {
    unigram->Encode(piece, stop, scratch.unigram, out);
  } else {
    std::get<WordPiece>(model_).Encode(piece, stop, out);
  }
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
  return std::make_shared<const PipelineTokenizer>(std::move(definition));
}

void MarkControlTokens(absl::Span<const std::string> texts, TokenizerDefinition& definition) {
  const std::unordered_set<std::string_view> wanted(texts.begin(), texts.end());
  std::vector<bool> added(definition.tokens.size());
  for (AddedToken& token : definition.added) {
    added[token.id] = true;
    if (wanted.count(token.content) == 0) continue;
    token.special = true;
    definition.matchable[token.id] = false;
  }
  for (TokenId id = 0; id < definition.tokens.size(); ++id) {
    const std::string& token = definition.tokens[id];
    if (token.empty() || added[id] || wanted.count(token) == 0) continue;
    definition.matchable[id] = false;
    definition.added.push_back({.id = id, .content = token, .special = true});
  }
}

void LimitTokens(uint32_t rows, TokenizerDefinition& definition) {
  if (definition.tokens.size() <= rows) return;
  const auto beyond = [&](TokenId id) { return id >= rows && id < definition.tokens.size(); };
  std::erase_if(definition.added, [&](const AddedToken& token) { return beyond(token.id); });
  std::erase_if(definition.aliases, [&](const auto& alias) { return beyond(alias.second); });
  std::erase_if(definition.prefix, beyond);
  std::erase_if(definition.suffix, beyond);
  if (definition.bos.has_value() && beyond(*definition.bos)) definition.bos.reset();
  const auto forget_unknown = [&](TokenId& unknown) {
    if (beyond(unknown)) unknown = kNoToken;
  };
  if (auto* unigram = std::get_if<UnigramOptions>(&definition.model)) {
    unigram->scores.resize(rows);
    forget_unknown(unigram->unknown);
  } else if (auto* words = std::get_if<WordPieceOptions>(&definition.model)) {
    forget_unknown(words->unknown);
  } else {
    auto& bpe = std::get<BpeDefinition>(definition.model);
    forget_unknown(bpe.options.unknown);
    bpe.detours.clear();
    std::erase_if(bpe.merges, [&](const BpeMerge& merge) {
      return std::max({merge.left, merge.right, merge.result}) >= rows;
    });
  }
  definition.tokens.resize(rows);
  definition.matchable.resize(rows);
}

void AppendByteLevel(std::string_view bytes, std::string& out) {
  static const std::array<std::string, 256> kSpelled = [] {
    std::array<std::string, 256> spelled;
    const std::array<int16_t, 0x144> byte_of = MakeByteAlphabet();
    for (char32_t c = 0; c < byte_of.size(); ++c) {
      if (byte_of[c] >= 0) AppendUtf8(c, spelled[byte_of[c]]);
    }
    return spelled;
  }();
  for (const char byte : bytes) out += kSpelled[static_cast<uint8_t>(byte)];
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

SpelledTokens::SpelledTokens(const TokenizerDefinition& definition, Of found) {
  ids_.reserve(definition.tokens.size());
  for (TokenId id = 0; id < definition.tokens.size(); ++id) {
    if (definition.tokens[id].empty()) continue;
    const auto [entry, fresh] = ids_.emplace(definition.tokens[id], id);
    if (!fresh && found == Of::kLast) entry->second = id;
  }
  for (const auto& [text, id] : definition.aliases) ids_.emplace(text, id);
}

TokenId SpelledTokens::Find(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? kNoToken : found->second;
}

absl::StatusOr<BpeMerge> SpelledTokens::Merge(std::string_view left, std::string_view right,
                                              size_t prefix, uint32_t rank) const {
  const std::string both = Concat({left, right.substr(std::min(prefix, right.size()))});
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
