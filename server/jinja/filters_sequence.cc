// Filters over sequences.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/printing.h"

namespace ebbinghaus::jinja {
namespace {

using Result = absl::StatusOr<Value>;

bool Flag(const Value* value) { return value != nullptr && value->Truth(); }
const Value& OrNone(const Value* value) {
  static const Value none;
  return value != nullptr ? *value : none;
}

// Text loses its case unless told otherwise.
Value CaseKey(Value value, bool case_sensitive, Budget& budget) {
  if (case_sensitive || !value.text() || !budget.SpendText(value.text()->size())) return value;
  return Value(ChangeCase(*value.text(), Case::kLower));
}

Result Count(const Value& input, Bound, Runtime&) {
  EBB_ASSIGN_OR_RETURN(const int64_t length, Length(input));
  return Value(length);
}

Result First(const Value& input, Bound, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(input, runtime));
  Value item;
  EBB_ASSIGN_OR_RETURN(const bool more, cursor.Next(&item));
  return more ? item : Value::Not("No first item, sequence was empty.");
}

Result Last(const Value& input, Bound, Runtime& runtime) {
  if (input.object()) return Refused(absl::StrCat("'", input.TypeName(), "' object is not reversible"));
  EBB_ASSIGN_OR_RETURN(const List items, Items(input, runtime));
  return items.empty() ? Value::Not("No last item, sequence was empty.") : items.back();
}

Result ToList(const Value& input, Bound, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(List items, Items(input, runtime));
  return Value::Of(std::move(items));
}

Result Reverse(const Value& input, Bound, Runtime& runtime) {
  if (input.text()) return Slice(input, Value(), Value(), Value(int64_t{-1}), runtime);
  EBB_ASSIGN_OR_RETURN(List items, Items(input, runtime));
  std::reverse(items.begin(), items.end());
  if (input.object()) return Value::Of(std::move(items));
  auto left = std::make_shared<List>(std::move(items));
  size_t at = 0;
  return MakeIterator([left, at](Value* item) mutable -> absl::StatusOr<bool> {
    if (at == left->size()) return false;
    *item = (*left)[at++];
    return true;
  }, 0, runtime);
}

Result Join(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text separator, a[0] ? Str(*a[0], runtime.budget) : Text());
  EBB_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(input, runtime));
  Text out;
  bool first = true;
  for (Value item;; first = false) {
    EBB_ASSIGN_OR_RETURN(const bool more, cursor.Next(&item));
    if (!more) return Value(std::move(out));
    if (a[1] != nullptr && !a[1]->none()) {
      EBB_ASSIGN_OR_RETURN(item, ByPath(item, *a[1], nullptr, runtime));
    }
    EBB_ASSIGN_OR_RETURN(const Text text, Str(item, runtime.budget));
    const size_t size = out.size() + text.size() + separator.size();
    if (!runtime.budget.SpendText(size > Budget::kMaxText ? size : separator.size())) return runtime.budget.status();
    if (!first) out.Append(separator);
    out.Append(text);
  }
}

Result Items_(const Value& input, Bound, Runtime& runtime) {
  // A generator: what is wrong shows once it is asked.
  const Value value = input;
  size_t at = 0;
  return MakeIterator([value, at](Value* item) mutable -> absl::StatusOr<bool> {
    if (value.undefined()) return false;
    if (!value.dict()) return Refused("Can only get item pairs from a mapping.");
    if (at == value.dict()->size()) return false;
    const Dict::Entry& entry = value.dict()->entries()[at++];
    *item = Value::Tuple({entry.first, entry.second});
    return true;
  }, 0, runtime);
}

Result DictSort(const Value& input, Bound a, Runtime& runtime) {
  const std::string by = a[1] && a[1]->text() ? a[1]->text()->bytes() : a[1] ? "" : "key";
  if (by != "key" && by != "value") return Refused("You can only sort by either \"key\" or \"value\"");
  if (!input.dict()) return Refused(absl::StrCat("dictsort needs a mapping, not ", input.TypeName()));
  List keys, pairs;
  for (const auto& [key, value] : input.dict()->entries()) {
    keys.push_back(CaseKey(by == "key" ? key : value, Flag(a[0]), runtime.budget));
    pairs.push_back(Value::Tuple({key, value}));
  }
  EBB_RETURN_IF_ERROR(SortBy(keys, pairs, Flag(a[2]), runtime));
  return Value::Of(std::move(pairs));
}

Result Sort(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(List items, Items(input, runtime));
  List paths = {OrNone(a[2])};
  if (a[2] != nullptr && a[2]->text()) {  // "a,b": by several attributes
    paths.clear();
    const Text& all = *a[2]->text();
    for (size_t begin = 0; begin <= all.size();) {
      const size_t end = std::min(all.bytes().find(',', begin), all.size());
      paths.push_back(Value(all.Slice(begin, end)));
      begin = end + 1;
    }
  }
  List keys;
  for (const Value& item : items) {
    List key;
    for (const Value& path : paths) {
      EBB_ASSIGN_OR_RETURN(Value part, ByPath(item, path, nullptr, runtime));
      key.push_back(CaseKey(std::move(part), Flag(a[1]), runtime.budget));
    }
    if (!runtime.budget.SpendItems(key.size())) return runtime.budget.status();
    keys.push_back(Value::Of(std::move(key)));
  }
  EBB_RETURN_IF_ERROR(SortBy(keys, items, Flag(a[0]), runtime));
  return Value::Of(std::move(items));
}

Result Unique(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Cursor over, Cursor::Over(input, runtime));
  const bool case_sensitive = Flag(a[0]);
  const Value path = OrNone(a[1]);
  auto cursor = std::make_shared<Cursor>(over);
  auto seen = std::make_shared<Dict>();
  return MakeIterator([=, &runtime](Value* item) -> absl::StatusOr<bool> {
    while (true) {
      EBB_ASSIGN_OR_RETURN(const bool more, cursor->Next(item));
      if (!more) return false;
      EBB_ASSIGN_OR_RETURN(Value key, ByPath(*item, path, nullptr, runtime));
      key = CaseKey(std::move(key), case_sensitive, runtime.budget);
      if (!key.SpendOnce(runtime.budget) || !runtime.budget.SpendItems(1)) return runtime.budget.status();
      if (!Hash(key)) return Refused(absl::StrCat("unhashable type: '", key.TypeName(), "'"));
      if (seen->Find(key) != nullptr) continue;
      seen->Set(std::move(key), Value(None{}));
      return true;
    }
  }, over.depth() + 1, runtime);
}

template <bool largest>
Result Extreme(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(input, runtime));
  Value best, best_key;
  bool any = false;
  for (Value item;;) {
    EBB_ASSIGN_OR_RETURN(const bool more, cursor.Next(&item));
    if (!more) break;
    EBB_ASSIGN_OR_RETURN(Value key, ByPath(item, OrNone(a[1]), nullptr, runtime));
    key = CaseKey(std::move(key), Flag(a[0]), runtime.budget);
    bool better = !any;
    if (any) {
      EBB_ASSIGN_OR_RETURN(better, largest ? Less(best_key, key, runtime.budget) : Less(key, best_key, runtime.budget));
    }
    if (better) best = item, best_key = key;
    any = true;
  }
  return any ? best : Value::Not("No aggregated item, sequence was empty.");
}

Result Sum(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(input, runtime));
  Value sum = a[1] ? *a[1] : Value(int64_t{0});
  if (sum.text()) return Refused("sum() can't sum strings");
  for (Value item;;) {
    EBB_ASSIGN_OR_RETURN(const bool more, cursor.Next(&item));
    if (!more) return sum;
    EBB_ASSIGN_OR_RETURN(item, ByPath(item, OrNone(a[0]), nullptr, runtime));
    EBB_ASSIGN_OR_RETURN(sum, Binary("+", sum, item, runtime));
  }
}

Result GroupBy(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(List items, Items(input, runtime));
  const Value* fallback = a[1] && !a[1]->none() ? a[1] : nullptr;
  const bool case_sensitive = Flag(a[2]);
  List keys;
  for (const Value& item : items) {
    EBB_ASSIGN_OR_RETURN(Value key, ByPath(item, *a[0], fallback, runtime));
    keys.push_back(CaseKey(std::move(key), case_sensitive, runtime.budget));
  }
  EBB_RETURN_IF_ERROR(SortBy(keys, items, false, runtime));
  List groups;
  for (size_t begin = 0, end = 0; begin < items.size(); begin = end) {
    List group;
    for (end = begin; end < items.size() && (end == begin || Equal(keys[begin], keys[end], runtime.budget)); ++end) group.push_back(items[end]);
    Value key = keys[begin];
    if (!case_sensitive) {
      EBB_ASSIGN_OR_RETURN(key, ByPath(items[begin], *a[0], fallback, runtime));
    }
    groups.push_back(Value::Group(std::move(key), Value::Of(std::move(group))));
  }
  return Value::Of(std::move(groups));
}

Result Batch(const Value& input, Bound a, Runtime& runtime) {
  const Value value = input, count = *a[0], fill = OrNone(a[1]);
  auto cursor = std::make_shared<std::optional<Cursor>>();
  auto row = std::make_shared<List>();
  int depth = 1;
  if (absl::StatusOr<Cursor> over = Cursor::Over(input, runtime); over.ok()) depth = over->depth() + 1;
  bool done = false;
  return MakeIterator([=, &runtime](Value* out) mutable -> absl::StatusOr<bool> {
    if (done) return false;
    if (!*cursor) {
      EBB_ASSIGN_OR_RETURN(*cursor, Cursor::Over(value, runtime));
    }
    const auto full = [&] { return count.number() && CompareNumbers(Value(static_cast<int64_t>(row->size())), count) == 0; };
    for (Value item;;) {
      EBB_ASSIGN_OR_RETURN(const bool more, (*cursor)->Next(&item));
      if (!more) break;
      const bool ready = full();
      if (ready) *out = Value::Of(std::move(*row));
      if (ready) row->clear();
      row->push_back(std::move(item));
      if (!runtime.budget.SpendItems(1)) return runtime.budget.status();
      if (ready) return true;
    }
    done = true;
    if (row->empty()) return false;
    if (!fill.none()) {
      EBB_ASSIGN_OR_RETURN(const int64_t width, IntegerArgument(count, "linecount"));
      while (static_cast<int64_t>(row->size()) < width) {
        if (!runtime.budget.SpendItems(1)) return runtime.budget.status();
        row->push_back(fill);
      }
    }
    *out = Value::Of(std::move(*row));
    return true;
  }, depth, runtime);
}

Result SliceUp(const Value& input, Bound a, Runtime& runtime) {
  const Value value = input, count = *a[0], fill = OrNone(a[1]);
  auto items = std::make_shared<std::optional<List>>();
  int64_t number = 0, offset = 0;
  int depth = 1;
  if (absl::StatusOr<Cursor> over = Cursor::Over(input, runtime); over.ok()) depth = over->depth() + 1;
  return MakeIterator([=, &runtime](Value* out) mutable -> absl::StatusOr<bool> {
    if (!*items) {
      EBB_ASSIGN_OR_RETURN(*items, Items(value, runtime));
    }
    EBB_ASSIGN_OR_RETURN(const int64_t slices, IntegerArgument(count, "slices"));
    if (slices == 0) return Refused("division by zero");
    if (number >= slices) return false;
    const auto length = static_cast<int64_t>((*items)->size());
    const int64_t each = length / slices, extra = length % slices;
    const int64_t begin = offset + number * each;
    if (number < extra) ++offset;
    const int64_t end = offset + (number + 1) * each;
    List part((*items)->begin() + begin, (*items)->begin() + end);
    if (!fill.none() && number >= extra) part.push_back(fill);
    ++number;
    if (!runtime.budget.SpendItems(part.size() + 1)) return runtime.budget.status();
    *out = Value::Of(std::move(part));
    return true;
  }, depth, runtime);
}

Result Random(const Value&, Bound, Runtime&) { return Refused("the filter 'random' is not supported: a prompt must not depend on chance"); }

}  // namespace

absl::Span<const Filter> SequenceFilters() {
  static const Filter kFilters[] = {
      {"length", {"/"}, Count}, {"count", {"/"}, Count}, {"first", {}, First}, {"last", {}, Last}, {"list", {}, ToList},
      {"reverse", {}, Reverse}, {"join", {"d,attribute"}, Join}, {"items", {}, Items_},
      {"dictsort", {"case_sensitive,by,reverse"}, DictSort}, {"sort", {"reverse,case_sensitive,attribute"}, Sort},
      {"unique", {"case_sensitive,attribute"}, Unique}, {"min", {"case_sensitive,attribute"}, Extreme<false>},
      {"max", {"case_sensitive,attribute"}, Extreme<true>}, {"sum", {"attribute,start"}, Sum},
      {"groupby", {"attribute,default,case_sensitive", 1}, GroupBy}, {"batch", {"linecount,fill_with", 1}, Batch},
      {"slice", {"slices,fill_with", 1}, SliceUp}, {"random", {}, Random}};
  return kFilters;
}

}  // namespace ebbinghaus::jinja
