// shufflenet manual: the manual page, for troff's man macros (man(7)).
#include <algorithm>
#include <iostream>
#include <sstream>

#include "commands.h"

namespace shufflenet::cli {

namespace {

/// Text that troff shows as it is; a hyphen stays one that can be copied.
std::string escaped(const std::string &text) {
    std::string result;
    for (const char ch : text) {
        if (ch == '\\') {
            result += "\\e";
        } else if (ch == '-') {
            result += "\\-";
        } else if (ch == '\'') {
            result += "\\(aq";
        } else {
            result += ch;
        }
    }
    // At the start of a line a dot is a request.
    return result.starts_with('.') ? "\\&" + result : result;
}

std::string bold(const std::string &text) { return "\\fB" + escaped(text) + "\\fR"; }
std::string italic(const std::string &text) { return "\\fI" + escaped(text) + "\\fR"; }

std::string tagged(const std::string &tag, const std::string &text) {
    return ".TP\n" + tag + "\n" + escaped(text) + "\n";
}

std::string usage(const CommandText &command) {
    std::string line = bold("shufflenet " + command.name) + " [" + italic("OPTION") + "]...";
    for (const OptionText &option : command.options) {
        if (!option.positional) continue;
        const std::string dots = option.repeatable ? "..." : "";
        line += option.required ? " " + italic(option.value) + dots : " [" + italic(option.value) + dots + "]";
    }
    return line;
}

std::string option_entry(const OptionText &option) {
    std::string tag;
    for (const std::string &name : option.names) {
        tag += (tag.empty() ? "" : ", ") + (option.positional ? italic(name) : bold(name));
    }
    if (!option.positional && !option.value.empty()) tag += " " + italic(option.value);
    std::string text = on_one_line(option.text);
    if (!option.default_value.empty()) text += " (default: " + option.default_value + ")";
    if (option.required && !option.positional) text += " (required)";
    for (const std::string &other : option.not_with) {
        text += (other == option.not_with.front() ? ", not with " : " or ") + other;
    }
    return tagged(tag, text + ".");
}

/// Paragraphs; lines that start with two blanks as they are.
std::string notes(const std::string &text) {
    std::string page;
    std::istringstream lines(text);
    bool verbatim = false;
    for (std::string line; std::getline(lines, line);) {
        const bool as_it_is = line.starts_with("  ");
        if (as_it_is != verbatim) page += as_it_is ? ".PP\n.nf\n" : ".fi\n";
        verbatim = as_it_is;
        page += line.empty() ? ".PP\n" : escaped(line) + "\n";
    }
    return page + (verbatim ? ".fi\n" : "");
}

std::string command_section(const CommandText &command) {
    std::string page = ".SS " + command.name + "\n" + usage(command) + "\n.PP\n" + escaped(command.summary) + ".\n";
    for (const OptionText &option : command.options) page += option_entry(option);
    return page + (command.notes.empty() ? "" : ".PP\n" + notes(command.notes));
}

std::string list_section(const std::string &title, const std::vector<NamedText> &entries) {
    std::string page = ".SH " + title + "\n";
    for (const NamedText &entry : entries) page += tagged(bold(entry.name), entry.text + ".");
    return page;
}

}  // namespace

std::string on_one_line(std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
}

int manual(const ManualOptions &options) {
    const ProgramText &program = options.program;
    std::string page = R"(.TH SHUFFLENET 1 "" "shufflenet )" + version_number() + R"(" "User Commands")" + "\n";
    page += ".SH NAME\nshufflenet \\- image classification with ShuffleNetV2\n";
    page += ".SH SYNOPSIS\n" + bold("shufflenet") + " " + italic("COMMAND") + " [" + italic("ARGUMENT") + "]...\n";
    page += ".SH DESCRIPTION\n" + escaped(program.program.summary) + "\n";
    page += ".SH OPTIONS\n";
    for (const OptionText &option : program.program.options) page += option_entry(option);
    page += ".SH COMMANDS\n";
    for (const CommandText &command : program.commands) page += command_section(command);
    page += list_section("ENVIRONMENT", program.environment);
    page += list_section("EXIT STATUS", program.exit_status);
    std::cout << page;
    return 0;
}

}  // namespace shufflenet::cli
