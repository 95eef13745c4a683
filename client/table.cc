#include "client/table.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/utf8.h"

namespace ebbinghaus::client {
namespace {

constexpr int kNarrowestColumn = 20;
constexpr std::string_view kColumnGap = " | ";

std::string Spaces(int count) { return std::string(static_cast<size_t>(std::max(count, 0)), ' '); }

std::string Pad(std::string_view text, int width, Table::Align align) {
  const std::string fill = Spaces(width - DisplayWidth(text));
  const absl::string_view shown(text.data(), text.size());
  return align == Table::Align::kLeft ? absl::StrCat(shown, fill) : absl::StrCat(fill, shown);
}

void EndLine(std::string& text) {
  while (!text.empty() && text.back() == ' ') text.pop_back();
  text += '\n';
}

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {
  assert(!columns_.empty());
}

void Table::AddRow(std::vector<std::string> cells) {
  assert(cells.size() == columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::Render() const {
  std::vector<int> widths;
  int total = -2;  // no gap before the first column
  for (size_t c = 0; c < columns_.size(); ++c) {
    int width = DisplayWidth(columns_[c].title);
    for (const auto& row : rows_) width = std::max(width, DisplayWidth(row[c]));
    widths.push_back(width);
    total += width + 2;
  }
  std::string text;
  const auto add_line = [&](const auto& cell) {
    for (size_t c = 0; c < columns_.size(); ++c) {
      absl::StrAppend(&text, c ? "  " : "", Pad(cell(c), widths[c], columns_[c].align));
    }
    EndLine(text);
  };
  add_line([&](size_t c) { return columns_[c].title; });
  absl::StrAppend(&text, std::string(static_cast<size_t>(total), '-'), "\n");
  for (const auto& row : rows_) add_line([&](size_t c) { return row[c]; });
  return text;
}

std::string SideBySide(const std::vector<TitledText>& texts, int width) {
  const int count = static_cast<int>(texts.size());
  if (count == 0) return "";
  const int gap = static_cast<int>(kColumnGap.size());
  const int column = (width - (count - 1) * gap) / count;
  std::string out;
  if (column < kNarrowestColumn) {
    for (const TitledText& entry : texts) {
      absl::StrAppend(&out, out.empty() ? "" : "\n", "--- ", entry.title, " ---\n");
      for (const std::string& line : Wrap(entry.text, std::max(width, kNarrowestColumn))) {
        absl::StrAppend(&out, line, "\n");
      }
    }
    return out;
  }
  std::vector<std::vector<std::string>> columns;
  size_t lines = 0;
  for (const TitledText& entry : texts) {
    columns.push_back(Wrap(entry.title, column));
    columns.back().push_back(std::string(static_cast<size_t>(column), '-'));
    for (std::string& line : Wrap(entry.text, column)) columns.back().push_back(std::move(line));
    lines = std::max(lines, columns.back().size());
  }
  for (size_t i = 0; i < lines; ++i) {
    for (size_t c = 0; c < columns.size(); ++c) {
      const std::string_view cell =
          i < columns[c].size() ? std::string_view(columns[c][i]) : std::string_view();
      if (c > 0) out.append(kColumnGap);
      out += Pad(cell, column, Table::Align::kLeft);
    }
    EndLine(out);
  }
  return out;
}

}  // namespace ebbinghaus::client
