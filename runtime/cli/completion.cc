// shufflenet completion: scripts for shells. The names of values ("FILE.npy", "MODEL") say what completes them.
#include <algorithm>
#include <array>
#include <iostream>
#include <regex>

#include "commands.h"
#include "images.h"
#include "models/compiled_models.h"
#include "networks/catalog.h"

namespace shufflenet::cli {

namespace {

/// What a value can be.
struct Candidates {
    std::vector<std::string> words = {};
    bool files = false;
    std::vector<std::string> suffixes = {};  ///< Of files; empty: any.
    bool words_go_on = false;                ///< A file comes straight after the word.
};

std::vector<std::string> model_names() {
    std::vector<std::string> names;
    for (const shufflenet_descriptor *model : compiled_models()) names.emplace_back(model->name);
    return names;
}

/// Of all models.
std::vector<std::string> output_names() {
    std::vector<std::string> names;
    for (const shufflenet_descriptor *model : compiled_models()) {
        for (const OutputInfo &output : describe(*model).outputs) {
            if (std::ranges::find(names, output.name) == names.end()) names.push_back(output.name);
        }
    }
    return names;
}

std::vector<std::string> network_names() {
    std::vector<std::string> names;
    for (const networks::PublishedNetwork &network : networks::published_networks()) {
        if (!network.test) names.push_back(network.name);
    }
    return names;
}

std::vector<std::string> suffixes_in(const std::string &value) {
    static const std::regex suffix("\\.[a-z]+");
    std::vector<std::string> found;
    for (std::sregex_iterator at(value.begin(), value.end(), suffix), end; at != end; ++at) found.push_back(at->str());
    return found;
}

Candidates candidates_of(const std::string &value) {
    if (value == "MODEL") return {model_names()};
    if (value == "NETWORK") return {network_names()};
    if (value == "SHELL") return {shells()};
    if (value == "IMAGE") return {{}, true, {kImageSuffixes.begin(), kImageSuffixes.end()}};
    if (value == "LIST") return {{}, true};
    Candidates candidates{{}, true, suffixes_in(value)};
    candidates.files = !candidates.suffixes.empty();
    if (value.starts_with("OUTPUT=")) {
        for (const std::string &name : output_names()) candidates.words.push_back(name + "=");
        candidates.words_go_on = true;
    }
    return candidates;
}

std::string joined(const std::vector<std::string> &words, const std::string &separator = " ") {
    std::string text;
    for (const std::string &word : words) text += (text.empty() ? "" : separator) + word;
    return text;
}

std::string replaced(const std::string &text, const std::string &characters, const std::string &with) {
    std::string result;
    for (const char ch : text) {
        if (characters.find(ch) == std::string::npos) {
            result += ch;
        } else {
            result += with + ch;
        }
    }
    return result;
}

/// The text between single quotes of a shell.
std::string quoted(const std::string &text) { return "'" + std::regex_replace(text, std::regex("'"), "'\\''") + "'"; }

std::vector<std::string> option_names(const CommandText &command) {
    std::vector<std::string> names;
    for (const OptionText &option : command.options) {
        if (!option.positional) names.insert(names.end(), option.names.begin(), option.names.end());
    }
    return names;
}

std::vector<std::string> command_names(const ProgramText &program) {
    std::vector<std::string> names;
    for (const CommandText &command : program.commands) names.push_back(command.name);
    return names;
}

// Bash

constexpr const char *kBashStart = R"(_shufflenet_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current"); }

_shufflenet_files() { # SUFFIX...: folders, and files with one of the suffixes or, without any, all files
    compopt -o filenames
    local suffix
    mapfile -t COMPREPLY < <(
        compgen -d -- "$current"
        for suffix in "${@:-}"; do
            compgen -f -X "!*$suffix" -- "$current"
            [[ ${suffix^^} == "$suffix" ]] || compgen -f -X "!*${suffix^^}" -- "$current"
        done
    )
}

_shufflenet() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command= word
    COMPREPLY=()
    # Bash makes a word of its own of '='.
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for word in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
        [[ $word == -* ]] || { command=$word && break; }
    done
    case "$command $previous" in
)";

/// A row of a case: what completes a word where the pattern matches.
std::string bash_row(const std::string &pattern, const Candidates &candidates) {
    std::string action;
    if (!candidates.words.empty()) {
        action = " _shufflenet_words " + quoted(joined(candidates.words));
        if (candidates.words_go_on) action += "; compopt -o nospace";
    } else if (candidates.files) {
        action = " _shufflenet_files";
        for (const std::string &suffix : candidates.suffixes) action += " " + suffix;
    }
    return "    " + pattern + ")" + action + " ;;\n";
}

/// Rows for what follows an option of the command, or a word that a file comes straight after.
std::string bash_values(const CommandText &command) {
    std::string rows;
    for (const OptionText &option : command.options) {
        if (option.positional || option.value.empty()) continue;
        const Candidates candidates = candidates_of(option.value);
        for (const std::string &name : option.names) rows += bash_row(quoted(command.name + " " + name), candidates);
        if (!candidates.words_go_on) continue;
        for (const std::string &word : candidates.words) {
            const std::string name = word.substr(0, word.find('='));
            rows += bash_row(quoted(command.name + " " + name), {{}, true, candidates.suffixes});
        }
    }
    return rows;
}

void add_new(const std::vector<std::string> &from, std::vector<std::string> *to) {
    for (const std::string &text : from) {
        if (std::find(to->begin(), to->end(), text) == to->end()) to->push_back(text);
    }
}

/// Rows for options of the command and for its arguments, whichever of them is next.
std::string bash_words(const CommandText &command, const std::vector<std::string> &arguments) {
    Candidates all{arguments};
    for (const OptionText &option : command.options) {
        if (!option.positional) continue;
        const Candidates more = candidates_of(option.value);
        add_new(more.words, &all.words);
        add_new(more.suffixes, &all.suffixes);
        all.files |= more.files;
    }
    const std::string name = quoted(command.name + " ");
    return bash_row("    " + name + "-*", {option_names(command)}) + bash_row("    " + name + "*", all);
}

std::string bash_script(const ProgramText &program) {
    std::string script = kBashStart;
    for (const CommandText &command : program.commands) script += bash_values(command);
    script += "    *)\n        case \"$command $current\" in\n";
    CommandText none = program.program;
    none.name.clear();
    script += bash_words(none, command_names(program));
    for (const CommandText &command : program.commands) script += bash_words(command, {});
    return script + "        esac\n        ;;\n    esac\n}\n\ncomplete -F _shufflenet shufflenet\n";
}

// Zsh

std::string zsh_action(const std::string &value) {
    const Candidates candidates = candidates_of(value);
    std::string message = ":" + replaced(value, ":", "\\") + ":";
    if (candidates.words_go_on) return message + "{compadd -S \"\" - " + joined(candidates.words) + "}";
    if (!candidates.words.empty()) return message + "(" + joined(candidates.words) + ")";
    if (!candidates.files) return message;
    if (candidates.suffixes.empty()) return message + "_files";
    std::vector<std::string> suffixes;
    for (const std::string &suffix : candidates.suffixes) suffixes.push_back(suffix.substr(1));
    return message + "_files -g \"(#i)*.(" + joined(suffixes, "|") + ")(-.)\"";
}

/// One argument of _arguments.
std::string zsh_option(const OptionText &option) {
    const std::string action = option.value.empty() ? "" : zsh_action(option.value);
    if (option.positional) return quoted((option.repeatable ? "*" : "") + action);
    const std::string text = "[" + replaced(on_one_line(option.text), "[]", "\\") + "]" + action;
    std::vector<std::string> not_with = option.not_with;
    if (!option.repeatable) not_with.insert(not_with.end(), option.names.begin(), option.names.end());
    const std::string prefix = option.repeatable ? "*" : "(" + joined(not_with) + ")";
    std::string arguments;
    for (const std::string &name : option.names) {
        const std::string equals = !option.value.empty() && name.starts_with("--") ? "=" : "";
        arguments += (arguments.empty() ? "" : " ") + quoted(prefix + name + equals + text);
    }
    return arguments;
}

std::string zsh_script(const ProgramText &program) {
    std::string script =
        "_shufflenet() {\n    local context state state_descr line\n    typeset -A opt_args\n    _arguments -C";
    for (const OptionText &option : program.program.options) script += " \\\n        " + zsh_option(option);
    script += " \\\n        '1:COMMAND:->command' '*::argument:->argument'\n    case $state in\n    command)\n";
    script += "        local -a commands=(\n";
    for (const CommandText &command : program.commands) {
        script += "            " + quoted(command.name + ":" + replaced(command.summary, ":", "\\")) + "\n";
    }
    script += "        )\n        _describe command commands\n        ;;\n    argument)\n        case $line[1] in\n";
    for (const CommandText &command : program.commands) {
        script += "        " + command.name + ") _arguments";
        for (const OptionText &option : command.options) script += " \\\n            " + zsh_option(option);
        script += " ;;\n";
    }
    // As a file in $fpath it is the function's body; sourced, it only defines it.
    return "#compdef shufflenet\n" + script +
           "        esac\n        ;;\n    esac\n}\n\n"
           "if [[ $funcstack[1] == _shufflenet ]]; then\n    _shufflenet \"$@\"\nelse\n"
           "    compdef _shufflenet shufflenet\nfi\n";
}

// Fish

std::string fish_arguments(const Candidates &candidates) {
    if (!candidates.words.empty()) return " -x -a " + quoted(joined(candidates.words));
    if (!candidates.files) return " -x";
    if (candidates.suffixes.empty()) return " -r -F";
    std::string files;
    for (const std::string &suffix : candidates.suffixes) files += "(__fish_complete_suffix " + suffix + ")";
    return " -x -k -a " + quoted(std::regex_replace(files, std::regex("\\)\\("), ") ("));
}

std::string fish_option(const std::string &condition, const OptionText &option) {
    std::string line = "complete -c shufflenet -n " + quoted(condition);
    for (const std::string &name : option.names) {
        if (option.positional) continue;
        line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    }
    if (!option.value.empty()) line += fish_arguments(candidates_of(option.value));
    return line + " -d " + quoted(on_one_line(option.text)) + "\n";
}

std::string fish_script(const ProgramText &program) {
    std::string script = "complete -c shufflenet -f\n";
    for (const OptionText &option : program.program.options) script += fish_option("__fish_use_subcommand", option);
    for (const CommandText &command : program.commands) {
        script += "complete -c shufflenet -n __fish_use_subcommand -a " + command.name + " -d " +
                  quoted(command.summary) + "\n";
        for (const OptionText &option : command.options) {
            script += fish_option("__fish_seen_subcommand_from " + command.name, option);
        }
    }
    return script;
}

struct Shell {
    std::string name;
    std::string (*script)(const ProgramText &);
};

const std::array<Shell, 3> &shell_table() {
    static const std::array<Shell, 3> table = {{{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}}};
    return table;
}

}  // namespace

const std::vector<std::string> &shells() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> list;
        for (const Shell &shell : shell_table()) list.push_back(shell.name);
        return list;
    }();
    return names;
}

int completion(const CompletionOptions &options) {
    for (const Shell &shell : shell_table()) {
        if (shell.name == options.shell) std::cout << shell.script(options.program);
    }
    return 0;
}

}  // namespace shufflenet::cli
