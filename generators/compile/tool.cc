#include "tool.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include "networks/targets.h"
#include "process.h"

namespace shufflenet::compile {

namespace {

Tool make_tool(const std::string &flag, const std::string &named, const char *variable, const std::string &processor,
               const std::string &native, const std::string &cross) {
    std::string text = named;
    const char *environment = std::getenv(variable);
    if (text.empty() && environment != nullptr) text = environment;
    if (text.empty()) text = processor == kProcessor ? native : processor + "-linux-gnu-" + cross;
    Tool tool{flag, {}};
    std::istringstream words(text);
    for (std::string word; words >> word;) tool.command.push_back(word);
    if (tool.command.empty()) tool.command.push_back(native);
    return tool;
}

/// Exit status of a program that could not be started.
constexpr int kNotStarted = 127;

[[noreturn]] void execute(const std::vector<std::string> &command, const std::string &folder, int in, int out) {
    std::vector<char *> words;
    for (const std::string &word : command) words.push_back(const_cast<char *>(word.c_str()));
    words.push_back(nullptr);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    if (chdir(folder.c_str()) == 0) execvp(words[0], words.data());
    _exit(kNotStarted);
}

/// Of what a compiler says, the line that tells what is wrong.
std::string worst_line(const std::string &said) {
    std::istringstream lines(said);
    std::string first;
    for (std::string line; std::getline(lines, line);) {
        if (line.find("rror") != std::string::npos) return line;
        if (first.empty()) first = line;
    }
    return first;
}

}  // namespace

Tool cxx_tool(const std::string &named, const std::string &processor) {
    return make_tool("--cxx", named, "CXX", processor, "c++", "g++");
}

Tool ar_tool(const std::string &named, const std::string &processor) {
    return make_tool("--ar", named, "AR", processor, "ar", "ar");
}

void run_tool(const Tool &tool, const std::vector<std::string> &arguments, const std::string &folder,
              const std::string &input) {
    std::vector<std::string> command = tool.command;
    command.insert(command.end(), arguments.begin(), arguments.end());
    Pipe in, out;
    in.fill(input);
    const pid_t child = start_process([&] { execute(command, folder, in.read_end(), out.write_end()); });
    in.close_read_end();
    out.close_write_end();
    const std::string said = out.read_all();
    const int status = wait_for(child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    const std::string name = tool.flag + ": " + tool.command[0];
    if (WIFEXITED(status) && WEXITSTATUS(status) == kNotStarted && said.empty()) {
        throw std::runtime_error(name + ": expected a program that can be run, found none");
    }
    throw std::runtime_error(name + ": " + (said.empty() ? "it failed" : worst_line(said)));
}

void check_tool(const Tool &tool) { run_tool(tool, {"--version"}, "."); }

}  // namespace shufflenet::compile
