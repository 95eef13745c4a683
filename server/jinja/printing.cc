#include "server/jinja/printing.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"

namespace ebbinghaus::jinja {

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

namespace {

std::string Escaped(char32_t c) {
  const auto n = static_cast<uint32_t>(c);
  if (n < 0x100) return absl::StrCat("\\x", absl::Hex(n, absl::kZeroPad2));
  if (n < 0x10000) return absl::StrCat("\\u", absl::Hex(n, absl::kZeroPad4));
  return absl::StrCat("\\U", absl::Hex(n, absl::kZeroPad8));
}

// Calls `spell` for each character; what it returns takes the character's mark; "" keeps it.
template <typename Spell>
void Respell(const Text& text, Text& out, Spell spell) {
  const std::string& bytes = text.bytes();
  size_t kept = 0;
  for (size_t at = 0; at < bytes.size();) {
    const size_t begin = at;
    const std::string other = spell(DecodeAt(bytes, &at));
    if (other.empty()) continue;
    out.Append(text, kept, begin);
    out.Append(other, text.marked(begin));
    kept = at;
  }
  out.Append(text, kept, bytes.size());
}

void AddRepr(const Text& text, Text& out) {
  const std::string& bytes = text.bytes();
  const char quote = bytes.find('\'') != bytes.npos && bytes.find('"') == bytes.npos ? '"' : '\'';
  out.Append(std::string_view(&quote, 1), false);
  Respell(text, out, [quote](char32_t c) -> std::string {
    if (c == static_cast<char32_t>(quote) || c == '\\') return std::string{'\\', static_cast<char>(c)};
    if (c == '\n') return "\\n";
    if (c == '\t') return "\\t";
    if (c == '\r') return "\\r";
    return (c >= 0x20 && c < 0x7f) || (c >= 0x80 && IsPrintable(c)) ? "" : Escaped(c);
  });
  out.Append(std::string_view(&quote, 1), false);
}

std::string JsonEscape(char32_t c, bool ensure_ascii) {
  switch (c) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    case '\b': return "\\b";
    case '\f': return "\\f";
    default: break;
  }
  const auto unit = [](uint32_t n) { return absl::StrCat("\\u", absl::Hex(n, absl::kZeroPad4)); };
  const auto n = static_cast<uint32_t>(c);
  if (n < 0x20) return unit(n);
  if (!ensure_ascii || n < 0x7f) return "";
  if (n < 0x10000) return unit(n);
  return unit(0xd800 + ((n - 0x10000) >> 10)) + unit(0xdc00 + ((n - 0x10000) & 0x3ff));
}

// Writes values out, and stops when the budget does. Lists may share their items many times over,
// so the size of what is written is not the size of the value.
class Printer {
 public:
  explicit Printer(Budget& budget) : budget_(budget) {}
  Text& text() { return text_; }

  absl::Status Put(std::string_view piece) {
    text_.Append(piece, false);
    return Grown(piece.size());
  }
  template <typename Add>
  absl::Status Put(const Text& piece, Add add) {
    if (!budget_.SpendText(piece.size())) return budget_.status();
    const size_t before = text_.size();
    add(piece, text_);
    return Grown(text_.size() - before);
  }
  template <typename Items, typename Write>
  absl::Status Each(const Items& items, Write write) {
    bool first = true;
    for (const auto& item : items) {
      if (!first) EBB_RETURN_IF_ERROR(Put(", "));
      first = false;
      EBB_RETURN_IF_ERROR(write(item));
    }
    return absl::OkStatus();
  }

  bool sort_keys = false;

  absl::Status Repr(const Value& value, int depth = 0) {
    if (!budget_.Spend()) return budget_.status();
    if (depth > Value::kMaxDepth) return absl::ResourceExhaustedError("nested too deeply");
    const auto inner = [&](const Value& item) { return Repr(item, depth + 1); };
    const auto pair = [&](const Dict::Entry& entry) -> absl::Status {
      EBB_RETURN_IF_ERROR(inner(entry.first));
      EBB_RETURN_IF_ERROR(Put(": "));
      return inner(entry.second);
    };
    if (value.text()) return ReprText(*value.text());
    if (value.list()) return Bracketed("[", "]", *value.list(), inner);
    if (value.tuple()) return Bracketed("(", value.tuple()->size() == 1 ? ",)" : ")", *value.tuple(), inner);
    if (value.dict()) return Bracketed("{", "}", Ordered(*value.dict()), pair);
    if (value.view()) return ReprView(*value.view(), inner);
    if (value.object()) return ReprObject(value.object(), pair);
    EBB_ASSIGN_OR_RETURN(const Text text, Str(value, budget_));
    return Put(value.undefined() ? "Undefined" : text.bytes());
  }

 private:
  absl::Status Grown(size_t bytes) {
    if (text_.size() > Budget::kMaxText) budget_.SpendText(text_.size());
    budget_.SpendBytes(bytes);
    budget_.SpendMemory(bytes);
    return budget_.status();
  }
  absl::Status ReprText(const Text& text) {
    if (text.markup()) EBB_RETURN_IF_ERROR(Put("Markup("));
    EBB_RETURN_IF_ERROR(Put(text, AddRepr));
    return text.markup() ? Put(")") : absl::OkStatus();
  }
  template <typename Items, typename Write>
  absl::Status Bracketed(std::string_view open, std::string_view close, const Items& items, Write write) {
    EBB_RETURN_IF_ERROR(Put(open));
    EBB_RETURN_IF_ERROR(Each(items, write));
    return Put(close);
  }
  std::vector<Dict::Entry> Ordered(const Dict& dict) const {
    std::vector<Dict::Entry> entries = dict.entries();
    const auto all_text = std::all_of(entries.begin(), entries.end(), [](const auto& e) { return e.first.text() != nullptr; });
    if (sort_keys && all_text) {
      std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first.text()->bytes() < b.first.text()->bytes(); });
    }
    return entries;
  }
  template <typename Inner>
  absl::Status ReprView(const View& view, Inner inner) {
    const auto& entries = view.dict->items.entries();
    if (view.kind == ViewKind::kKeys) return Bracketed("dict_keys([", "])", entries, [&](const auto& e) { return inner(e.first); });
    if (view.kind == ViewKind::kValues) return Bracketed("dict_values([", "])", entries, [&](const auto& e) { return inner(e.second); });
    return Bracketed("dict_items([", "])", entries, [&](const auto& e) { return inner(Value::Tuple({e.first, e.second})); });
  }
  template <typename Pair>
  absl::Status ReprObject(Object* object, Pair pair) {
    if (auto* space = dynamic_cast<Namespace*>(object)) return Bracketed("<Namespace {", "}>", space->attributes.entries(), pair);
    const std::string text = object->Printed();
    if (text.empty()) return Refused(absl::StrCat("printing a ", object->TypeName(), " is not supported"));
    return Put(text);
  }

  Budget& budget_;
  Text text_;
};

class JsonPrinter {
 public:
  JsonPrinter(const JsonStyle& style, Runtime& runtime) : style_(style), runtime_(runtime), printer_(runtime.budget) {}
  Text& text() { return printer_.text(); }

  absl::Status Write(const Value& value, int level) {
    if (!runtime_.budget.Spend()) return runtime_.budget.status();
    if (value.none()) return printer_.Put("null");
    if (const bool* flag = value.As<bool>()) return printer_.Put(*flag ? "true" : "false");
    if (value.number()) return printer_.Put(Number(value));
    if (value.text()) return String(*value.text());
    if (value.items()) {
      return Nested("[", "]", *value.items(), level, [&](const Value& item) { return Write(item, level + 1); });
    }
    if (value.dict()) return WriteDict(*value.dict(), level);
    return Refused(absl::StrCat("tojson: an object of type ", value.TypeName(), " is not JSON serializable"));
  }

 private:
  static std::string Number(const Value& value) {
    if (value.integral()) return absl::StrCat(value.integer());
    const double d = value.real();
    if (std::isnan(d)) return "NaN";
    if (std::isinf(d)) return d > 0 ? "Infinity" : "-Infinity";
    return FloatText(d);
  }
  absl::Status String(const Text& text) {
    EBB_RETURN_IF_ERROR(printer_.Put("\""));
    EBB_RETURN_IF_ERROR(printer_.Put(text, [&](const Text& from, Text& to) {
      Respell(from, to, [&](char32_t c) { return JsonEscape(c, style_.ensure_ascii); });
    }));
    return printer_.Put("\"");
  }
  absl::Status Copy(const Text& text) {
    return printer_.Put(text, [](const Text& from, Text& to) { to.Append(from); });
  }
  absl::Status Line(int level) {
    if (!style_.indent) return absl::OkStatus();
    EBB_RETURN_IF_ERROR(printer_.Put("\n"));
    for (int i = 0; i < level; ++i) EBB_RETURN_IF_ERROR(Copy(*style_.indent));
    return absl::OkStatus();
  }
  template <typename Items, typename WriteItem>
  absl::Status Nested(std::string_view open, std::string_view close, const Items& items, int level, WriteItem write) {
    EBB_RETURN_IF_ERROR(printer_.Put(open));
    bool first = true;
    for (const auto& item : items) {
      if (!first) EBB_RETURN_IF_ERROR(Copy(style_.item_separator));
      first = false;
      EBB_RETURN_IF_ERROR(Line(level + 1));
      EBB_RETURN_IF_ERROR(write(item));
    }
    if (!first) EBB_RETURN_IF_ERROR(Line(level));
    return printer_.Put(close);
  }
  absl::Status Key(const Value& key) {
    if (key.text()) return String(*key.text());
    if (key.none()) return printer_.Put("\"null\"");
    if (const bool* flag = key.As<bool>()) return printer_.Put(*flag ? "\"true\"" : "\"false\"");
    if (key.number()) return printer_.Put(absl::StrCat("\"", Number(key), "\""));
    return Refused(absl::StrCat("tojson: keys must not be of type ", key.TypeName()));
  }
  absl::Status WriteDict(const Dict& dict, int level) {
    List keys, values;
    for (const auto& [key, value] : dict.entries()) {
      keys.push_back(key);
      values.push_back(Value::Tuple({key, value}));
    }
    if (style_.sort_keys) EBB_RETURN_IF_ERROR(SortBy(keys, values, false, runtime_));
    return Nested("{", "}", values, level, [&](const Value& pair) -> absl::Status {
      EBB_RETURN_IF_ERROR(Key((*pair.tuple())[0]));
      EBB_RETURN_IF_ERROR(Copy(style_.key_separator));
      return Write((*pair.tuple())[1], level + 1);
    });
  }

  const JsonStyle& style_;
  Runtime& runtime_;
  Printer printer_;
};

}  // namespace

absl::StatusOr<Text> Repr(const Value& value, Budget& budget, bool sort_keys) {
  Printer printer(budget);
  printer.sort_keys = sort_keys;
  EBB_RETURN_IF_ERROR(printer.Repr(value));
  return std::move(printer.text());
}

absl::StatusOr<Text> Str(const Value& value, Budget& budget) {
  if (const Text* own = value.text()) {
    if (!budget.SpendText(own->size())) return budget.status();
    return own->WithMarkup(false);
  }
  if (value.undefined() || value.missing()) return Text();
  if (value.none()) return Text("None");
  if (const bool* flag = value.As<bool>()) return Text(*flag ? "True" : "False");
  if (value.integral()) return Text(absl::StrCat(value.integer()));
  if (value.number()) return Text(FloatText(value.real()));
  if (const Range* r = value.range()) {
    return Text(r->step == 1 ? absl::StrCat("range(", r->start, ", ", r->stop, ")")
                             : absl::StrCat("range(", r->start, ", ", r->stop, ", ", r->step, ")"));
  }
  return Repr(value, budget);
}

Text Ascii(const Text& repr) {
  Text out;
  Respell(repr, out, [](char32_t c) { return c < 0x80 ? "" : Escaped(c); });
  return out;
}

absl::StatusOr<Text> Json(const Value& value, const JsonStyle& style, Runtime& runtime) {
  JsonPrinter printer(style, runtime);
  EBB_RETURN_IF_ERROR(printer.Write(value, 0));
  return std::move(printer.text());
}

}  // namespace ebbinghaus::jinja
