#include "server/text/jinja_value.h"

#include <charconv>
#include <cmath>

namespace ebbinghaus::text::jinja {
namespace {

constexpr int kMaxDepth = 64;  // of nested lists and dicts when they are printed or compared

// Python's repr of a float: the shortest digits that read back, with ".0" for whole numbers.
std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[40];
  const bool plain = value == 0 || (std::abs(value) >= 1e-4 && std::abs(value) < 1e16);
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer, end.ptr);
  if (plain && text.find('.') == text.npos) text += ".0";
  return text;
}

// Python's repr of a string, which prefers single quotes.
std::string Repr(const std::string& text) {
  const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, quote);
  for (char c : text) {
    if (c == quote || c == '\\') out += '\\';
    if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (c == '\r') out += "\\r";
    else out += c;
  }
  return out + quote;
}

void AppendRepr(const Value& value, int depth, std::string& out) {
  if (depth > kMaxDepth) {
    out += "...";
  } else if (const Text* text = value.text()) {
    out += Repr(text->bytes());
  } else if (const List* list = value.list()) {
    out += '[';
    for (size_t i = 0; i < list->size(); ++i) {
      if (i > 0) out += ", ";
      AppendRepr((*list)[i], depth + 1, out);
    }
    out += ']';
  } else if (const Dict* dict = value.dict()) {
    out += '{';
    for (size_t i = 0; i < dict->size(); ++i) {
      if (i > 0) out += ", ";
      out += Repr((*dict)[i].first) + ": ";
      AppendRepr((*dict)[i].second, depth + 1, out);
    }
    out += '}';
  } else {
    out += value.ToText().bytes();
  }
}

bool AnyMarked(const Value& value, int depth) {
  if (depth > kMaxDepth) return true;
  if (const Text* text = value.text()) return text->any_marked();
  if (const List* list = value.list()) {
    for (const Value& v : *list) if (AnyMarked(v, depth + 1)) return true;
  }
  if (const Dict* dict = value.dict()) {
    for (const auto& [key, v] : *dict) if (AnyMarked(v, depth + 1)) return true;
  }
  return false;
}

std::string JsonString(const std::string& text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (unsigned char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      default:
        if (c < 0x20) out += std::string("\\u00") + kHex[c >> 4] + kHex[c & 15];
        else out += static_cast<char>(c);
    }
  }
  return out + '"';
}

void AppendJson(const Value& value, int indent, int depth, std::string& out) {
  const auto line = [&](int level) {
    if (indent >= 0) out += "\n" + std::string(static_cast<size_t>(indent) * level, ' ');
  };
  const std::string comma = indent >= 0 ? "," : ", ";
  if (depth > kMaxDepth || value.none() || value.undefined()) {
    out += "null";
  } else if (const bool* flag = value.As<bool>()) {
    out += *flag ? "true" : "false";
  } else if (const Text* text = value.text()) {
    out += JsonString(text->bytes());
  } else if (const List* list = value.list()) {
    out += '[';
    for (size_t i = 0; i < list->size(); ++i) {
      if (i > 0) out += comma;
      line(depth + 1);
      AppendJson((*list)[i], indent, depth + 1, out);
    }
    if (!list->empty()) line(depth);
    out += ']';
  } else if (const Dict* dict = value.dict()) {
    out += '{';
    for (size_t i = 0; i < dict->size(); ++i) {
      if (i > 0) out += comma;
      line(depth + 1);
      out += JsonString((*dict)[i].first) + ": ";
      AppendJson((*dict)[i].second, indent, depth + 1, out);
    }
    if (!dict->empty()) line(depth);
    out += '}';
  } else {
    out += value.ToText().bytes();
  }
}

bool EqualAt(const Value& a, const Value& b, int depth) {
  if (depth > kMaxDepth) return false;
  if (a.number() && b.number()) return a.real() == b.real();
  if (a.text() && b.text()) return a.text()->bytes() == b.text()->bytes();
  if (a.list() && b.list()) {
    if (a.list()->size() != b.list()->size()) return false;
    for (size_t i = 0; i < a.list()->size(); ++i) {
      if (!EqualAt((*a.list())[i], (*b.list())[i], depth + 1)) return false;
    }
    return true;
  }
  if (a.dict() && b.dict()) {
    if (a.dict()->size() != b.dict()->size()) return false;
    for (const auto& [key, value] : *a.dict()) {
      const Value* other = Find(*b.dict(), key);
      if (other == nullptr || !EqualAt(value, *other, depth + 1)) return false;
    }
    return true;
  }
  return (a.none() && b.none()) || (a.undefined() && b.undefined());
}

}  // namespace

Text Text::Slice(size_t begin, size_t end) const {
  Text part;
  part.bytes_ = bytes_.substr(begin, end - begin);
  part.marks_ = marks_.substr(begin, end - begin);
  return part;
}

void Text::Append(const Text& other) {
  bytes_ += other.bytes_;
  marks_ += other.marks_;
}

double Value::real() const {
  if (const auto* d = As<double>()) return *d;
  return static_cast<double>(integer());
}

int64_t Value::integer() const {
  if (const auto* b = As<bool>()) return *b;
  const auto* i = As<int64_t>();
  return i ? *i : 0;
}

bool Value::Truth() const {
  if (undefined() || none()) return false;
  if (number()) return real() != 0;
  if (text()) return !text()->empty();
  if (list()) return !list()->empty();
  if (dict()) return !dict()->empty();
  return true;
}

Text Value::ToText() const {
  if (const Text* own = text()) return *own;
  if (none()) return Text("None");
  if (const bool* flag = As<bool>()) return Text(*flag ? "True" : "False");
  if (const auto* i = As<int64_t>()) return Text(std::to_string(*i));
  if (const auto* d = As<double>()) return Text(FloatText(*d));
  if (list() || dict()) {
    std::string out;
    AppendRepr(*this, 0, out);
    return Text(std::move(out), AnyMarked(*this, 0));
  }
  return Text();
}

bool Equal(const Value& a, const Value& b) { return EqualAt(a, b, 0); }

const Value* Find(const Dict& dict, std::string_view key) {
  for (const auto& [name, value] : dict) {
    if (name == key) return &value;
  }
  return nullptr;
}

std::string ToJson(const Value& value, int indent) {
  std::string out;
  AppendJson(value, indent, 0, out);
  return out;
}

std::vector<size_t> CodePointOffsets(std::string_view bytes) {
  std::vector<size_t> offsets;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if ((static_cast<unsigned char>(bytes[i]) & 0xc0) != 0x80) offsets.push_back(i);
  }
  offsets.push_back(bytes.size());
  return offsets;
}

}  // namespace ebbinghaus::text::jinja
