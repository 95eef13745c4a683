// Plain text tables and columns for a terminal.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ebbinghaus::client {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kRight;
  };

  // Requires: at least one column.
  explicit Table(std::vector<Column> columns);

  // Requires: one cell per column.
  void AddRow(std::vector<std::string> cells);

  // Titles, a rule and the rows, columns two spaces apart and as wide as their widest cell; ends in
  // a newline.
  std::string Render() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

struct TitledText {
  std::string title;
  std::string text;
};

// The texts wrapped in columns beside each other within `width` terminal columns; below one another
// where a column would be narrower than 20. Ends in a newline.
std::string SideBySide(const std::vector<TitledText>& texts, int width);

}  // namespace ebbinghaus::client
