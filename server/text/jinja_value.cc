#include "server/text/jinja_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

namespace ebbinghaus::text::jinja {
namespace {

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

// Writes values out, as Python's repr or JSON do, and stops when the budget does. Lists may share their items many times
// over, so the size of what is written is not the size of the value.
class Printer {
 public:
  explicit Printer(Budget& budget) : budget_(budget) {}

  Text Take() { return Text(std::move(out_), marked_); }

  void Repr(const Value& value) {
    if (const Text* text = value.text()) return Add(*text, jinja::Repr);
    const List* list = value.list();
    const Dict* dict = value.dict();
    if (list == nullptr && dict == nullptr) return Put(value.ToText(budget_).bytes());
    Put(list ? "[" : "{");
    if (list) Each(*list, [&](const Value& item) { Repr(item); });
    if (dict) {
      Each(*dict, [&](const auto& entry) {
        Put(jinja::Repr(entry.first) + ": ");
        Repr(entry.second);
      });
    }
    Put(list ? "]" : "}");
  }

  void Json(const Value& value, int indent, int level = 0) {
    if (value.none() || value.undefined()) return Put("null");
    if (const bool* flag = value.As<bool>()) return Put(*flag ? "true" : "false");
    if (const Text* text = value.text()) return Add(*text, JsonString);
    const List* list = value.list();
    const Dict* dict = value.dict();
    if (list == nullptr && dict == nullptr) return Put(value.ToText(budget_).bytes());
    const auto line = [&](int at) {
      if (indent < 0) return;
      Put("\n");
      Put(std::string(static_cast<size_t>(indent) * at, ' '));
    };
    const char* comma = indent >= 0 ? "," : ", ";
    Put(list ? "[" : "{");
    if (list) {
      Each(*list, comma, [&](const Value& item) {
        line(level + 1);
        Json(item, indent, level + 1);
      });
    } else {
      Each(*dict, comma, [&](const auto& entry) {
        line(level + 1);
        Put(JsonString(entry.first) + ": ");
        Json(entry.second, indent, level + 1);
      });
    }
    if (value.Truth()) line(level);
    Put(list ? "]" : "}");
  }

 private:
  void Put(std::string_view piece) {
    if (budget_.Spend() && budget_.SpendText(piece.size()) && out_.size() + piece.size() <= Budget::kMaxText) {
      out_ += piece;
    } else {
      budget_.SpendText(Budget::kMaxText + 1);
    }
  }
  void Add(const Text& text, std::string (*quote)(const std::string&)) {
    marked_ = marked_ || text.any_marked();
    if (budget_.SpendText(text.size())) Put(quote(text.bytes()));
  }
  template <typename Items, typename Write>
  void Each(const Items& items, Write write) { Each(items, ", ", write); }
  template <typename Items, typename Write>
  void Each(const Items& items, const char* comma, Write write) {
    for (size_t i = 0; i < items.size() && budget_.status().ok(); ++i) {
      if (i > 0) Put(comma);
      write(items[i]);
    }
  }

  Budget& budget_;
  std::string out_;
  bool marked_ = false;
};

int DepthOf(const Value& value) { return value.depth(); }
int DepthOf(const std::pair<std::string, Value>& entry) { return entry.second.depth(); }

template <typename Items>
std::shared_ptr<const Nest<Items>> Nested(Items items) {
  int deepest = 0;
  for (const auto& item : items) deepest = std::max(deepest, DepthOf(item));
  return std::make_shared<const Nest<Items>>(Nest<Items>{std::move(items), deepest + 1});
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

Value Value::Of(List list) {
  Value value;
  value.v = Nested(std::move(list));
  return value;
}

Value Value::Of(Dict dict) {
  Value value;
  value.v = Nested(std::move(dict));
  return value;
}

const List* Value::list() const {
  auto* nest = As<std::shared_ptr<const Nest<List>>>();
  return nest ? &(*nest)->items : nullptr;
}

const Dict* Value::dict() const {
  auto* nest = As<std::shared_ptr<const Nest<Dict>>>();
  return nest ? &(*nest)->items : nullptr;
}

int Value::depth() const {
  if (auto* nest = As<std::shared_ptr<const Nest<List>>>()) return (*nest)->depth;
  if (auto* nest = As<std::shared_ptr<const Nest<Dict>>>()) return (*nest)->depth;
  return As<Namespace>() ? kNamespaceDepth : 0;
}

bool Value::SpendOnce(Budget& budget) const {
  if (text()) return budget.SpendBytes(text()->size());
  return budget.Spend(list() ? list()->size() : dict() ? dict()->size() : 0);
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

Text Value::ToText(Budget& budget) const {
  if (const Text* own = text()) return budget.SpendText(own->size()) ? *own : Text();
  if (none()) return Text("None");
  if (const bool* flag = As<bool>()) return Text(*flag ? "True" : "False");
  if (const auto* i = As<int64_t>()) return Text(std::to_string(*i));
  if (const auto* d = As<double>()) return Text(FloatText(*d));
  if (list() || dict()) {
    Printer printer(budget);
    printer.Repr(*this);
    return printer.Take();
  }
  return Text();
}

bool Equal(const Value& a, const Value& b, Budget& budget) {
  if (!budget.Spend()) return false;
  if (a.number() && b.number()) return a.real() == b.real();
  if (a.text() && b.text()) {
    if (a.text()->size() != b.text()->size() || !budget.SpendBytes(a.text()->size())) return false;
    return a.text()->bytes() == b.text()->bytes();
  }
  if (a.list() && b.list()) {
    const List &x = *a.list(), &y = *b.list();
    return x.size() == y.size() &&
           std::equal(x.begin(), x.end(), y.begin(), [&](const Value& i, const Value& j) { return Equal(i, j, budget); });
  }
  if (a.dict() && b.dict()) {
    if (a.dict()->size() != b.dict()->size()) return false;
    for (const auto& [key, value] : *a.dict()) {
      const Value* other = budget.Spend(b.dict()->size()) ? Find(*b.dict(), key) : nullptr;
      if (other == nullptr || !Equal(value, *other, budget)) return false;
    }
    return true;
  }
  return (a.none() && b.none()) || (a.undefined() && b.undefined());
}

const Value* Find(const Dict& dict, std::string_view key) {
  for (const auto& [name, value] : dict) {
    if (name == key) return &value;
  }
  return nullptr;
}

Text ToJson(const Value& value, int indent, Budget& budget) {
  Printer printer(budget);
  printer.Json(value, indent);
  return printer.Take();
}

size_t FindIn(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return text.npos;
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found ? static_cast<const char*>(found) - text.data() : text.npos;
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
