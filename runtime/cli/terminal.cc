#include "terminal.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <new>
#include <utility>

#include "error.h"
#include "runtime/src/log.h"
#include "runtime/src/message.h"

namespace shufflenet::cli {

namespace {

/// Characters of a UTF-8 text: every byte but the continuations.
size_t display_width(std::string_view text) {
    return std::count_if(text.begin(), text.end(), [](char ch) { return (ch & 0xC0) != 0x80; });
}

bool is_terminal(int descriptor) {
    const char *type = std::getenv("TERM");
    return ::isatty(descriptor) == 1 && type != nullptr && type != std::string_view("dumb");
}

/// The text in a style of ECMA-48 (SGR), where the terminal may show it.
std::string styled(int descriptor, std::string_view style, const std::string &text) {
    const char *no_color = std::getenv("NO_COLOR");
    if (!is_terminal(descriptor) || (no_color != nullptr && *no_color != '\0')) return text;
    return "\x1b[" + std::string(style) + "m" + text + "\x1b[0m";
}

constexpr std::string_view kBold = "1", kBoldRed = "1;31", kBoldCyan = "1;36";

}  // namespace

void report_error(std::string_view text) noexcept {
    try {
        std::cerr << "shufflenet: " + styled(STDERR_FILENO, kBoldRed, "error:") + " " + message::one_line(text) + "\n";
    } catch (const std::bad_alloc &) {
        std::cerr << "shufflenet: error: out of memory\n";
    }
}

void report_note(std::string_view text) {
    std::cerr << "shufflenet: " + styled(STDERR_FILENO, kBoldCyan, "note:") + " " + message::one_line(text) + "\n";
}

void flush_stdout() {
    if (!std::cout.flush()) throw Error("standard output: could not be written");
}

std::string fixed(double value, int decimals) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.*f", decimals, value);
    return text.data();
}

std::string grouped(int64_t value) {
    const std::string digits = std::to_string(value);
    std::string text;
    for (size_t i = 0; i < digits.size(); ++i) {
        if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
        text += digits[i];
    }
    return text;
}

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {
    for (const Column &column : columns_) widths_.push_back(display_width(column.title));
}

void Table::add_row(std::vector<std::string> cells) {
    for (size_t i = 0; i < cells.size(); ++i) {
        cells[i] = message::one_line(cells[i]);
        widths_[i] = std::max(widths_[i], display_width(cells[i]));
    }
    rows_.push_back(std::move(cells));
}

void Table::print() const {
    std::vector<std::string> titles;
    for (const Column &column : columns_) titles.push_back(column.title);
    std::cout << styled(STDOUT_FILENO, kBold, line_of(titles)) << '\n';
    for (const auto &row : rows_) std::cout << line_of(row) << '\n';
}

std::string Table::line_of(const std::vector<std::string> &cells) const {
    std::string line;
    for (size_t i = 0; i < cells.size(); ++i) {
        const std::string padding(widths_[i] - display_width(cells[i]), ' ');
        if (i > 0) line += "  ";
        line += columns_[i].align == Align::kRight ? padding + cells[i] : cells[i] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    return line;
}

Progress::Progress(size_t total, Results results)
    : total_(total),
      wanted_(total > 1 && is_terminal(STDERR_FILENO) && !logging() &&
              (results == Results::kAtTheEnd || !is_terminal(STDOUT_FILENO))) {}

void Progress::show(size_t done) {
    constexpr size_t kWidth = 30;
    constexpr std::chrono::milliseconds kPause{50};
    const auto now = std::chrono::steady_clock::now();
    if (!wanted_ || (drawn_ && now - last_ < kPause)) return;
    const size_t filled = kWidth * done / total_;
    std::cerr << "\r[" + std::string(filled, '#') + std::string(kWidth - filled, '.') + "] " + std::to_string(done) +
                     "/" + std::to_string(total_);
    drawn_ = true;
    last_ = now;
}

void Progress::clear() {
    if (drawn_) std::cerr << "\r\x1b[K";
    drawn_ = false;
}

}  // namespace shufflenet::cli
