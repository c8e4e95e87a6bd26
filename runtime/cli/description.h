// The command line in words, as arguments.cc declares it: what completion and manual page are made of.
#pragma once

#include <string>
#include <vector>

namespace shufflenet::cli {

struct OptionText {
    std::vector<std::string> names;  ///< "-h", "--help"; of a positional argument its one name, without a dash.
    std::string value;               ///< What follows it, "FILE.npy"; empty: a flag.
    std::string text;
    std::string default_value;          ///< Empty: none.
    std::vector<std::string> not_with;  ///< Options that it excludes.
    bool positional = false, required = false, repeatable = false;
};

struct CommandText {
    std::string name, summary;
    std::vector<OptionText> options;
    /// Paragraphs with an empty line between them; lines that start with two blanks are to be shown as they are.
    std::string notes;
};

struct NamedText {
    std::string name, text;
};

struct ProgramText {
    CommandText program;  ///< Its options go without a command.
    std::vector<CommandText> commands;
    std::vector<NamedText> environment, exit_status;
};

/// A line break in a text is for the width of --help; elsewhere it is a blank.
std::string on_one_line(std::string text);

/// Shells that `shufflenet completion` knows.
const std::vector<std::string> &shells();

}  // namespace shufflenet::cli
