// Work in child processes, several at a time. Halide is not thread-safe, and numbers its names as it goes: a process of
// its own for each kernel makes the code independent of what else is compiled.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace shufflenet::compile {

struct Job {
    /// For messages: "kernel stem_… for avx2".
    std::string name;
    /// Runs in the child; what it returns comes back to the parent.
    std::function<std::string()> run;
};

/// As many as the machine has processors for this process.
int default_jobs();

/// What each job returned, in order. `done`, if any, is called in the parent after each with the number of jobs that
/// are done. Throws std::runtime_error with the job's name and its exception's text, or how it ended, once one fails;
/// no child is left then.
std::vector<std::string> run_jobs(const std::vector<Job> &jobs, int at_once,
                                  const std::function<void(size_t done)> &done = nullptr);

}  // namespace shufflenet::compile
