#include "results.h"

#include <array>
#include <charconv>
#include <iostream>
#include <nlohmann/json.hpp>

#include "terminal.h"

namespace shufflenet::cli {

namespace {

/// The shortest text that reads back as the same number.
std::string exact(double value) {
    std::array<char, 32> text{};
    const char *end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
    return {text.data(), static_cast<size_t>(end - text.data())};
}

/// A CSV field: in quotes if it has to be, quotes doubled.
std::string field(const std::string &text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    std::string quoted = "\"";
    for (const char ch : text) quoted += ch == '"' ? "\"\"" : std::string(1, ch);
    return quoted + '"';
}

}  // namespace

void print_table(const std::vector<Result> &results, const std::vector<std::string> &labels) {
    using enum Table::Align;
    Table table({{"file"}, {"label"}, {"probability", kRight}, {"ms", kRight}});
    for (const Result &result : results) {
        bool first = true;
        for (const Guess &guess : result.top) {
            table.add_row({first ? result.file : "", labels[guess.label], fixed(100 * guess.probability, 1) + " %",
                           first ? fixed(result.milliseconds, 2) : ""});
            first = false;
        }
    }
    table.print();
}

void print_json(const Result &result, const std::vector<std::string> &labels) {
    using Json = nlohmann::ordered_json;
    Json top = Json::array();
    for (const Guess &guess : result.top) {
        top.push_back({{"class", guess.label}, {"label", labels[guess.label]}, {"probability", guess.probability}});
    }
    const Json object = {{"file", result.file}, {"top", top}};
    // A file's name need not be UTF-8, JSON must be.
    std::cout << object.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
}

void print_csv_header() { std::cout << "file,rank,class,label,probability\n"; }

void print_csv(const Result &result, const std::vector<std::string> &labels) {
    int rank = 1;
    for (const Guess &guess : result.top) {
        std::cout << field(result.file) << ',' << rank++ << ',' << guess.label << ',' << field(labels[guess.label])
                  << ',' << exact(guess.probability) << '\n';
    }
}

}  // namespace shufflenet::cli
