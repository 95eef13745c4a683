#include "server/jinja/text.h"

#include <unicode/uchar.h>
#include <unicode/ustring.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <cstring>

namespace ebbinghaus::jinja {

Text Text::WithMarkup(bool markup) const {
  Text text = *this;
  text.markup_ = markup;
  return text;
}

Text Text::Slice(size_t begin, size_t end) const {
  Text part;
  part.markup_ = markup_;
  if (begin >= end) return part;
  part.bytes_ = bytes_.substr(begin, end - begin);
  if (!marks_.empty()) part.marks_ = marks_.substr(begin, end - begin);
  return part;
}

void Text::Append(const Text& other) { Append(other, 0, other.size()); }

void Text::Append(const Text& other, size_t begin, size_t end) {
  if (begin >= end) return;
  if (!other.marks_.empty() || !marks_.empty()) {
    marks_.resize(bytes_.size(), '\0');
    if (other.marks_.empty()) marks_.append(end - begin, '\0');
    else marks_.append(other.marks_, begin, end - begin);
  }
  bytes_.append(other.bytes_, begin, end - begin);
}

void Text::Append(std::string_view bytes, bool from_caller) {
  if (from_caller || !marks_.empty()) {
    marks_.resize(bytes_.size(), '\0');
    marks_.append(bytes.size(), from_caller ? '\1' : '\0');
  }
  bytes_.append(bytes);
}

CodePoints::CodePoints(std::string_view bytes) : bytes_(bytes), count_(bytes.size()) {
  if (std::all_of(bytes.begin(), bytes.end(), [](unsigned char c) { return c < 0x80; })) return;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if ((static_cast<unsigned char>(bytes[i]) & 0xc0) != 0x80) offsets_.push_back(i);
  }
  count_ = offsets_.size();
  offsets_.push_back(bytes.size());
}

char32_t CodePoints::at(size_t i) const {
  size_t at = offset(i);
  return DecodeAt(bytes_, &at);
}

size_t CodePoints::IndexOf(size_t offset) const {
  if (offsets_.empty()) return offset;
  return static_cast<size_t>(std::lower_bound(offsets_.begin(), offsets_.end(), offset) - offsets_.begin());
}

char32_t DecodeAt(std::string_view bytes, size_t* at) {
  UChar32 c;
  int64_t i = static_cast<int64_t>(*at);
  U8_NEXT_OR_FFFD(reinterpret_cast<const uint8_t*>(bytes.data()), i, static_cast<int64_t>(bytes.size()), c);
  *at = static_cast<size_t>(i);
  return static_cast<char32_t>(c);
}

void AppendCodePoint(char32_t c, std::string& out) {
  uint8_t buffer[4];
  int32_t length = 0;
  UBool failed = false;
  U8_APPEND(buffer, length, 4, static_cast<UChar32>(c), failed);
  if (!failed) out.append(reinterpret_cast<const char*>(buffer), static_cast<size_t>(length));
}

bool IsValidUtf8(std::string_view bytes) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  for (int64_t i = 0; i < static_cast<int64_t>(bytes.size());) {
    UChar32 c;
    U8_NEXT(data, i, static_cast<int64_t>(bytes.size()), c);
    if (c < 0) return false;
  }
  return true;
}

size_t FindIn(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return text.npos;
  if (part.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found == nullptr ? text.npos
                          : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

size_t FindLastIn(std::string_view text, std::string_view part, size_t from, size_t to) {
  if (part.size() > text.size()) return text.npos;
  to = std::min(to, text.size() - part.size());
  if (from > to) return text.npos;
  // Searching the mirror image finds the last place in linear time too.
  const std::string back(text.rend() - static_cast<std::ptrdiff_t>(to + part.size()), text.rend() - static_cast<std::ptrdiff_t>(from));
  const std::string key(part.rbegin(), part.rend());
  const size_t found = FindIn(back, key);
  return found == text.npos ? found : to - found;
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool IsLineBreak(char32_t c) {
  return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

namespace {

UChar32 C(char32_t c) { return static_cast<UChar32>(c); }
int32_t NumericType(char32_t c) { return u_getIntPropertyValue(C(c), UCHAR_NUMERIC_TYPE); }

}  // namespace

bool IsDecimal(char32_t c) { return c < 0x80 ? c >= '0' && c <= '9' : NumericType(c) == U_NT_DECIMAL; }
bool IsDigit(char32_t c) { return IsDecimal(c) || NumericType(c) == U_NT_DIGIT; }
bool IsNumeric(char32_t c) { return NumericType(c) != U_NT_NONE; }
bool IsAlpha(char32_t c) { return (U_GET_GC_MASK(C(c)) & U_GC_L_MASK) != 0; }
bool IsWord(char32_t c) { return c == '_' || IsAlpha(c) || IsNumeric(c); }
bool IsPrintable(char32_t c) {
  return c == ' ' || (U_GET_GC_MASK(C(c)) & (U_GC_C_MASK | U_GC_Z_MASK)) == 0;
}
bool IsUpper(char32_t c) { return u_hasBinaryProperty(C(c), UCHAR_UPPERCASE); }
bool IsLower(char32_t c) { return u_hasBinaryProperty(C(c), UCHAR_LOWERCASE); }
bool IsTitle(char32_t c) { return u_charType(C(c)) == U_TITLECASE_LETTER; }
bool IsCased(char32_t c) { return u_hasBinaryProperty(C(c), UCHAR_CASED); }

bool IsIdentifier(std::string_view name) {
  for (size_t at = 0; at < name.size();) {
    const bool first = at == 0;
    const char32_t c = DecodeAt(name, &at);
    if (c == '_') continue;
    if (!u_hasBinaryProperty(C(c), first ? UCHAR_XID_START : UCHAR_XID_CONTINUE)) return false;
  }
  return !name.empty();
}

namespace {

using Mapper = int32_t (*)(UChar*, int32_t, const UChar*, int32_t, const char*, UErrorCode*);

// One character's full mapping, which may be several characters.
void Map(char32_t c, Mapper mapper, bool mark, Text& out) {
  UChar from[2], to[16];
  int32_t length = 0;
  U16_APPEND_UNSAFE(from, length, C(c));
  UErrorCode error = U_ZERO_ERROR;
  const int32_t mapped = mapper(to, 16, from, length, "", &error);
  std::string bytes;
  for (int32_t i = 0; i < mapped && U_SUCCESS(error);) {
    UChar32 next;
    U16_NEXT(to, i, mapped, next);
    AppendCodePoint(static_cast<char32_t>(next), bytes);
  }
  out.Append(bytes, mark);
}

int32_t ToTitle(UChar* to, int32_t size, const UChar* from, int32_t length, const char*, UErrorCode* error) {
  UChar32 c;
  int32_t at = 0;
  U16_NEXT(from, at, length, c);
  const UChar32 title = u_totitle(c);
  // Characters without a title form of one character have the upper form's, first letter only:
  // "ß" is "Ss".
  int32_t made = u_strToUpper(to, size, from, length, "", error);
  if (U_FAILURE(*error)) return 0;
  int32_t first = 0;
  UChar32 head;
  U16_NEXT(to, first, made, head);
  if (first >= made) {
    int32_t i = 0;
    U16_APPEND_UNSAFE(to, i, title);
    return i;
  }
  return u_strToTitle(to, size, from, length, nullptr, "", error);
}

int32_t Fold(UChar* to, int32_t size, const UChar* from, int32_t length, const char*, UErrorCode* error) {
  return u_strFoldCase(to, size, from, length, U_FOLD_CASE_DEFAULT, error);
}

// A capital sigma becomes a final one behind a letter and before none.
bool IsFinalSigma(const std::string& bytes, const CodePoints& points, size_t at) {
  const auto ignorable = [&](size_t i) { return u_hasBinaryProperty(C(points.at(i)), UCHAR_CASE_IGNORABLE); };
  static_cast<void>(bytes);
  size_t before = at;
  while (before > 0 && ignorable(before - 1)) --before;
  if (before == 0 || !IsCased(points.at(before - 1))) return false;
  size_t after = at + 1;
  while (after < points.count() && ignorable(after)) ++after;
  return after == points.count() || !IsCased(points.at(after));
}

void AsciiCase(char c, bool upper, bool mark, Text& out) {
  if (upper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  if (!upper && c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  out.Append(std::string_view(&c, 1), mark);
}

}  // namespace

Text ChangeCase(const Text& text, Case to) {
  const CodePoints points(text.bytes());
  Text out;
  bool in_word = false;
  for (size_t i = 0; i < points.count(); ++i) {
    const char32_t c = points.at(i);
    const bool mark = text.marked(points.offset(i));
    Case how = to;
    if (to == Case::kCapitalize) how = i == 0 ? Case::kTitle : Case::kLower;
    if (to == Case::kSwap) how = IsUpper(c) ? Case::kLower : IsLower(c) ? Case::kUpper : Case::kSwap;
    if (to == Case::kTitle) {
      how = in_word ? Case::kLower : Case::kTitle;
      in_word = IsCased(c);
    }
    if (c < 0x80 && how != Case::kSwap) {
      AsciiCase(static_cast<char>(c), how == Case::kUpper || how == Case::kTitle, mark, out);
    } else if (how == Case::kUpper) {
      Map(c, u_strToUpper, mark, out);
    } else if (how == Case::kTitle) {
      Map(c, ToTitle, mark, out);
    } else if (how == Case::kFold) {
      Map(c, Fold, mark, out);
    } else if (how == Case::kLower && c == 0x3a3) {
      out.Append(IsFinalSigma(text.bytes(), points, i) ? "\u03c2" : "\u03c3", mark);
    } else if (how == Case::kLower) {
      Map(c, u_strToLower, mark, out);
    } else {
      out.Append(text, points.offset(i), points.offset(i + 1));
    }
  }
  return out.WithMarkup(text.markup());
}

}  // namespace ebbinghaus::jinja
