#include "terminal.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <iostream>
#include <utility>

#include "error.h"
#include "runtime/src/message.h"

namespace shufflenet::cli {

namespace {

/// Characters of a UTF-8 text: every byte but the continuations.
size_t display_width(std::string_view text) {
    return std::count_if(text.begin(), text.end(), [](char ch) { return (ch & 0xC0) != 0x80; });
}

}  // namespace

void report_error(std::string_view text) { std::cerr << "shufflenet: error: " + message::one_line(text) + "\n"; }

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
    print_row(titles);
    for (const auto &row : rows_) print_row(row);
}

void Table::print_row(const std::vector<std::string> &cells) const {
    std::string line;
    for (size_t i = 0; i < cells.size(); ++i) {
        const std::string padding(widths_[i] - display_width(cells[i]), ' ');
        if (i > 0) line += "  ";
        line += columns_[i].align == Align::kRight ? padding + cells[i] : cells[i] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::cout << line << '\n';
}

}  // namespace shufflenet::cli
