// UTF-8 and Unicode properties, as far as tokenizers need them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ebbinghaus::text {

// The first code point of a text.
struct Utf8Step {
  char32_t code_point = 0;  // U+FFFD where the bytes are not UTF-8
  uint32_t size = 0;        // bytes it takes, at least 1; an ill-formed one: its maximal subpart
  bool valid = false;
  bool truncated = false;  // ill-formed only because the text ends: more bytes could complete it
};

// Requires: text is not empty. Source: Unicode 15, section 3.9 (well-formed byte sequences, table
// 3-7).
Utf8Step DecodeUtf8(std::string_view text);

void AppendUtf8(char32_t code_point, std::string& out);
bool IsValidUtf8(std::string_view text);

// Every maximal ill-formed subpart becomes one U+FFFD; valid text comes back unchanged.
std::string ReplaceInvalidUtf8(std::string_view text);

// ReplaceInvalidUtf8 for bytes that arrive in parts: all results joined equal that of all bytes
// joined, and a code point is given out as soon as its last byte is there.
class Utf8Accumulator {
 public:
  // The text that is complete now. Bytes that may still become a code point are held back.
  std::string Add(std::string_view bytes);
  // What was held back, as U+FFFD.
  std::string Finish();

 private:
  std::string held_;  // a proper prefix of one code point
};

bool IsWhitespace(char32_t c);   // White_Space
bool IsWord(char32_t c);         // Alphabetic, marks, decimal digits, connectors, joiners
bool IsNumeric(char32_t c);      // general category N

// These know the characters that the reference library's tables know.
bool IsPunctuation(char32_t c);     // ASCII punctuation and general category P of Unicode 8
bool IsMark(char32_t c);            // general category M of Unicode 9
bool IsNonspacingMark(char32_t c);  // general category Mn of Unicode 8
bool IsOther(char32_t c);  // general category C of Unicode 8, but for what is not assigned
bool IsHan(char32_t c);             // the ideographs that BERT sets apart

// Lower case of one character wherever it stands, sometimes two characters.
void AppendLowercase(char32_t c, std::string& out);

// A number that stands for the script of a character, the same for all that UnicodeScripts keeps
// together; -1 for those that go with any script.
int ScriptClass(char32_t c);

// Where the user-perceived characters of a text end, in order. Requires: valid UTF-8.
std::vector<size_t> GraphemeEnds(std::string_view text);

enum class NormalizationForm { kNfc, kNfd, kNfkc, kNfkd };

// Requires: valid UTF-8.
std::string Normalize(NormalizationForm form, std::string_view text);
// No normalization reaches across the place before such a character.
bool HasNormalizationBoundaryBefore(NormalizationForm form, char32_t c);

}  // namespace ebbinghaus::text
