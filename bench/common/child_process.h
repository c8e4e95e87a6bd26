// Child processes with everything that can go wrong with them told apart.
#pragma once

#include <string>
#include <vector>

namespace shufflenet::bench {

struct ChildResult {
    bool ok = false;      ///< Exited with 0 within the time.
    std::string failure;  ///< Otherwise: "exit status 1: last line of stderr", "signal 11", "no end within 30 s", ...
    std::string output;   ///< Standard output.
};

/// Runs `command` (found through PATH), writes `input` to it and waits for its end. A child that has not ended within
/// `seconds`, and all of its own children, are killed; so they are when `interrupted` becomes true.
ChildResult run_child(const std::vector<std::string> &command, const std::string &input, double seconds);

/// Set by SIGINT and SIGTERM once handle_interrupts() was called.
bool interrupted();
void handle_interrupts();

}  // namespace shufflenet::bench
