// What the commands print.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shufflenet::cli {

/// One error line on stderr, whatever the text contains.
void report_error(std::string_view text);

/// Sends what was printed on its way; throws Error if not all of it could be written.
void flush_stdout();

/// As printf() with "%.*f".
std::string fixed(double value, int decimals);

/// The number with its digits in groups of three: 1,366,792.
std::string grouped(int64_t value);

/// Rows of text in columns that are as wide as they must be.
class Table {
  public:
    enum class Align { kLeft, kRight };
    struct Column {
        std::string title;
        Align align = Align::kLeft;
    };

    explicit Table(std::vector<Column> columns);
    /// Control characters, which file names may contain, are escaped.
    void add_row(std::vector<std::string> cells);
    /// On stdout.
    void print() const;

  private:
    void print_row(const std::vector<std::string> &cells) const;

    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
    std::vector<size_t> widths_;
};

}  // namespace shufflenet::cli
