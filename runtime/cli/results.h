// What `shufflenet classify` prints: for people, as JSON, as CSV.
#pragma once

#include <string>
#include <vector>

namespace shufflenet::cli {

struct Guess {
    int label;  ///< Number of the class.
    double probability;
};

struct Result {
    std::string file;
    std::vector<Guess> top;
    double milliseconds = 0;
};

/// `labels`, here and below: one for each class.
void print_table(const std::vector<Result> &results, const std::vector<std::string> &labels);

/// One object on one line.
void print_json(const Result &result, const std::vector<std::string> &labels);

/// A line for each guess, with quotes as RFC 4180 wants them; lines end in LF.
void print_csv_header();
void print_csv(const Result &result, const std::vector<std::string> &labels);

}  // namespace shufflenet::cli
