#include "server/jinja/heap.h"

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::jinja {
namespace {

constexpr int kMaxChain = 50;

Value ViewItem(const View& view, size_t i) {
  const Dict::Entry& entry = view.dict->items.entries()[i];
  if (view.kind == ViewKind::kKeys) return entry.first;
  if (view.kind == ViewKind::kValues) return entry.second;
  return Value::Tuple({entry.first, entry.second});
}

}  // namespace

absl::StatusOr<Cursor> Cursor::Over(const Value& value, Runtime& runtime) {
  Cursor cursor(value, runtime);
  if (value.object() && dynamic_cast<Iterator*>(value.object())) {
    cursor.size_ = -1;
    return cursor;
  }
  if (value.text()) {
    runtime.budget.SpendBytes(value.text()->size());
    cursor.points_ = std::make_shared<CodePoints>(value.text()->bytes());
  }
  absl::StatusOr<int64_t> size = Length(value);
  if (!size.ok() || value.object()) {
    return absl::InvalidArgumentError(absl::StrCat("'", value.TypeName(), "' object is not iterable"));
  }
  cursor.size_ = *size;
  return cursor;
}

int Cursor::depth() const {
  const auto* iterator = value_.object() ? dynamic_cast<Iterator*>(value_.object()) : nullptr;
  return iterator ? iterator->depth : 0;
}

absl::StatusOr<bool> Cursor::Next(Value* item) {
  if (!runtime_->budget.Spend()) return runtime_->budget.status();
  if (size_ < 0) {
    auto* iterator = static_cast<Iterator*>(value_.object());
    if (iterator->running) return absl::InvalidArgumentError("generator already executing");
    iterator->running = true;
    absl::StatusOr<bool> more = iterator->next(item);
    iterator->running = false;
    return more;
  }
  if (at_ >= size_) return false;
  const auto i = static_cast<size_t>(at_++);
  if (const List* items = value_.items()) *item = (*items)[i];
  else if (const Dict* dict = value_.dict()) *item = dict->entries()[i].first;
  else if (value_.range()) *item = Value(value_.range()->at(static_cast<int64_t>(i)));
  else if (value_.view()) *item = ViewItem(*value_.view(), i);
  else *item = Value(value_.text()->Slice(points_->offset(i), points_->offset(i + 1)).WithMarkup(false));
  return true;
}

absl::StatusOr<List> Items(const Value& value, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(value, runtime));
  List items;
  for (Value item;;) {
    EBB_ASSIGN_OR_RETURN(const bool more, cursor.Next(&item));
    if (!more) return items;
    if (!runtime.budget.SpendItems(1)) return runtime.budget.status();
    items.push_back(std::move(item));
  }
}

absl::StatusOr<int64_t> Length(const Value& value) {
  if (const Text* text = value.text()) {
    int64_t count = 0;
    for (const char c : text->bytes()) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    return count;
  }
  if (value.items()) return static_cast<int64_t>(value.items()->size());
  if (value.dict()) return static_cast<int64_t>(value.dict()->size());
  if (value.view()) return static_cast<int64_t>(value.view()->dict->items.size());
  if (value.range()) return value.range()->size();
  if (value.undefined()) return 0;
  return absl::InvalidArgumentError(absl::StrCat("object of type '", value.TypeName(), "' has no len()"));
}

absl::StatusOr<Value> MakeIterator(Iterator::Next next, int depth, Runtime& runtime) {
  if (depth > kMaxChain) return absl::ResourceExhaustedError("nested too deeply");
  return Value(static_cast<Object*>(runtime.heap.New<Iterator>(runtime.budget, std::move(next), depth)));
}

}  // namespace ebbinghaus::jinja
