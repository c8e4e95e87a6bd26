// Programs that the compiler runs: the C++ compiler, which assembles, and ar.
#pragma once

#include <string>
#include <vector>

namespace shufflenet::compile {

struct Tool {
    std::string flag;                  ///< The option that names another one, for messages.
    std::vector<std::string> command;  ///< The program and what it always gets.
};

/// The C++ compiler for a processor: `named`, or what the environment's CXX says, or the system's.
Tool cxx_tool(const std::string &named, const std::string &processor);
/// The archiver, likewise.
Tool ar_tool(const std::string &named, const std::string &processor);

/// Runs a tool in a folder, with `input` to read. Throws std::runtime_error with what it says if it fails or is not
/// there.
void run_tool(const Tool &tool, const std::vector<std::string> &arguments, const std::string &folder,
              const std::string &input = {});

/// Throws std::runtime_error where it is not there: before much is done that it is needed for.
void check_tool(const Tool &tool);

}  // namespace shufflenet::compile
