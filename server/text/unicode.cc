#include "server/text/unicode.h"

#include <unicode/brkiter.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/utext.h>

#include <cstdlib>
#include <memory>

namespace ebbinghaus::text {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

// What may follow a lead byte: how many bytes, and the range of the first of them (which excludes
// overlong forms, surrogates and what lies above U+10FFFF).
struct Lead {
  uint32_t following = 0;
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
};

bool ClassifyLead(uint8_t byte, Lead& lead) {
  if (byte >= 0xC2 && byte <= 0xDF) {
    lead.following = 1;
  } else if (byte >= 0xE0 && byte <= 0xEF) {
    lead.following = 2;
    if (byte == 0xE0) lead.low = 0xA0;
    if (byte == 0xED) lead.high = 0x9F;
  } else if (byte >= 0xF0 && byte <= 0xF4) {
    lead.following = 3;
    if (byte == 0xF0) lead.low = 0x90;
    if (byte == 0xF4) lead.high = 0x8F;
  } else {
    return false;
  }
  return true;
}

// Whether Unicode has had the character since version `major` or an earlier one. The reference
// library's tables are of different ages, and models were trained with them.
bool IsOfAge(char32_t c, uint8_t major) {
  UVersionInfo version;
  u_charAge(static_cast<UChar32>(c), version);
  return version[0] <= major;
}

const icu::Normalizer2& Instance(NormalizationForm form) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* instance = nullptr;
  switch (form) {
    case NormalizationForm::kNfc:
      instance = icu::Normalizer2::getNFCInstance(error);
      break;
    case NormalizationForm::kNfd:
      instance = icu::Normalizer2::getNFDInstance(error);
      break;
    case NormalizationForm::kNfkc:
      instance = icu::Normalizer2::getNFKCInstance(error);
      break;
    case NormalizationForm::kNfkd:
      instance = icu::Normalizer2::getNFKDInstance(error);
      break;
  }
  // The data is compiled into the library: its absence is a broken installation.
  if (U_FAILURE(error) || instance == nullptr) std::abort();
  return *instance;
}

}  // namespace

Utf8Step DecodeUtf8(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (byte(0) < 0x80) return {.code_point = byte(0), .size = 1, .valid = true};
  Lead lead;
  if (!ClassifyLead(byte(0), lead)) return {.code_point = kReplacement, .size = 1};
  char32_t value = byte(0) & (0x3F >> lead.following);
  for (uint32_t i = 1; i <= lead.following; ++i) {
    if (i == text.size()) return {.code_point = kReplacement, .size = i, .truncated = true};
    const uint8_t low = i == 1 ? lead.low : 0x80;
    const uint8_t high = i == 1 ? lead.high : 0xBF;
    if (byte(i) < low || byte(i) > high) return {.code_point = kReplacement, .size = i};
    value = (value << 6) | (byte(i) & 0x3F);
  }
  return {.code_point = value, .size = lead.following + 1, .valid = true};
}

void AppendUtf8(char32_t c, std::string& out) {
  const auto put = [&](char32_t bits) { out.push_back(static_cast<char>(bits)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6));
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3F));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = DecodeUtf8(text);
    if (!step.valid) return false;
    text.remove_prefix(step.size);
  }
  return true;
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  Utf8Accumulator accumulator;
  std::string out = accumulator.Add(text);
  return out += accumulator.Finish();
}

std::string Utf8Accumulator::Add(std::string_view bytes) {
  std::string joined;
  if (!held_.empty()) {
    joined = std::move(held_);
    joined += bytes;
    bytes = joined;
    held_.clear();
  }
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const Utf8Step step = DecodeUtf8(bytes);
    if (step.truncated) {
      held_ = bytes;
      break;
    }
    if (step.valid) {
      out += bytes.substr(0, step.size);
    } else {
      AppendUtf8(kReplacement, out);
    }
    bytes.remove_prefix(step.size);
  }
  return out;
}

std::string Utf8Accumulator::Finish() {
  std::string out;
  if (!held_.empty()) AppendUtf8(kReplacement, out);
  held_.clear();
  return out;
}

bool IsWhitespace(char32_t c) { return u_isUWhiteSpace(static_cast<UChar32>(c)); }

bool IsWord(char32_t c) {
  const auto point = static_cast<UChar32>(c);
  return u_hasBinaryProperty(point, UCHAR_ALPHABETIC) ||
         u_hasBinaryProperty(point, UCHAR_JOIN_CONTROL) ||
         (U_GET_GC_MASK(point) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

bool IsNumeric(char32_t c) { return (U_GET_GC_MASK(static_cast<UChar32>(c)) & U_GC_N_MASK) != 0; }

bool IsPunctuation(char32_t c) {
  if (c < 0x80) return c > 0x20 && c < 0x7F && !u_isalnum(static_cast<UChar32>(c));
  if (c == 0x166D || c == 0x111C9) return true;  // were then
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & U_GC_P_MASK) != 0 && IsOfAge(c, 8);
}

bool IsMark(char32_t c) {
  if (c == 0x1CF2 || c == 0x1CF3) return true;  // were then
  if (c == 0x111C9) return false;               // became one later
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & U_GC_M_MASK) != 0 && IsOfAge(c, 9);
}

bool IsNonspacingMark(char32_t c) {
  if (c == 0x1734) return true;                                                      // was then
  if (c == 0x1885 || c == 0x1886 || c == 0xA9BD || c == 0x111C9) return false;  // became one later
  return u_charType(static_cast<UChar32>(c)) == U_NON_SPACING_MARK && IsOfAge(c, 8);
}

bool IsOther(char32_t c) {
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) &
          (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK | U_GC_CS_MASK)) != 0 &&
         IsOfAge(c, 8);
}

bool IsHan(char32_t c) {
  constexpr struct {
    char32_t first, last;
  } kBlocks[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
                 {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
  for (const auto& block : kBlocks) {
    if (c >= block.first && c <= block.last) return true;
  }
  return false;
}

void AppendLowercase(char32_t c, std::string& out) {
  AppendUtf8(static_cast<char32_t>(u_tolower(static_cast<UChar32>(c))), out);
  if (c == 0x130) AppendUtf8(0x307, out);  // the only one that becomes two
}

int ScriptClass(char32_t c) {
  if (c == U' ') return -1;
  if (c == 0x30FC) return USCRIPT_HIRAGANA;  // the long vowel mark, by itself in the reference too
  UErrorCode error = U_ZERO_ERROR;
  const UScriptCode script = uscript_getScript(static_cast<UChar32>(c), &error);
  if (U_FAILURE(error) || script == USCRIPT_UNKNOWN || !IsOfAge(c, 9)) return -1;
  return script == USCRIPT_HIRAGANA || script == USCRIPT_KATAKANA ? USCRIPT_HAN : script;
}

std::vector<size_t> GraphemeEnds(std::string_view text) {
  std::vector<size_t> ends;
  UErrorCode error = U_ZERO_ERROR;
  const std::unique_ptr<icu::BreakIterator> breaks(
      icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), error));
  UText* opened = utext_openUTF8(nullptr, text.data(), static_cast<int64_t>(text.size()), &error);
  if (U_SUCCESS(error)) {
    breaks->setText(opened, error);
    for (int32_t end = breaks->next(); end != icu::BreakIterator::DONE; end = breaks->next()) {
      ends.push_back(static_cast<size_t>(end));
    }
  }
  if (opened != nullptr) utext_close(opened);
  return ends;
}

std::string Normalize(NormalizationForm form, std::string_view text) {
  const icu::Normalizer2& normalizer = Instance(form);
  const icu::StringPiece piece(text.data(), static_cast<int32_t>(text.size()));
  UErrorCode error = U_ZERO_ERROR;
  if (normalizer.isNormalizedUTF8(piece, error) && U_SUCCESS(error)) return std::string(text);
  error = U_ZERO_ERROR;
  std::string out;
  icu::StringByteSink<std::string> sink(&out, static_cast<int32_t>(text.size()));
  normalizer.normalizeUTF8(0, piece, sink, nullptr, error);
  if (U_FAILURE(error)) return std::string(text);  // out of memory inside ICU only
  return out;
}

bool HasNormalizationBoundaryBefore(NormalizationForm form, char32_t c) {
  return Instance(form).hasBoundaryBefore(static_cast<UChar32>(c));
}

}  // namespace ebbinghaus::text
