// What the commands print. Colours appear on a terminal only, and not where NO_COLOR is set (https://no-color.org).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shufflenet::cli {

/// One error line on stderr, whatever the text contains.
void report_error(std::string_view text) noexcept;

/// The same for what is no error, but should not pass in silence.
void report_note(std::string_view text);

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
    std::string line_of(const std::vector<std::string> &cells) const;

    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
    std::vector<size_t> widths_;
};

/// How far a long job is: a bar on stderr, drawn again in its place. Only on a terminal, and only where nothing else
/// is printed in between: not with results on the same terminal, nor with log lines.
class Progress {
  public:
    enum class Results { kAtTheEnd, kOneByOne };

    Progress(size_t total, Results results);
    Progress(const Progress &) = delete;
    Progress &operator=(const Progress &) = delete;
    ~Progress() { clear(); }

    void show(size_t done);
    /// Makes room for another line.
    void clear();

  private:
    size_t total_;
    bool wanted_;
    bool drawn_ = false;
    std::chrono::steady_clock::time_point last_;
};

}  // namespace shufflenet::cli
