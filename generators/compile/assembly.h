// The assembly that LLVM writes for a kernel, changed as text: what nothing reaches is dropped, symbols of Halide's
// runtime get names of this version's, everything else stays inside. So no step needs tools for object files, which
// differ from one format to another.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace shufflenet::compile {

struct Processor {
    std::string_view comment;  ///< Begins a comment up to the end of its line.
};

/// Of a processor of networks/targets.h.
Processor processor_named(std::string_view name);

/// One module's part of an assembly file.
struct Module {
    /// An identifier of the module, which its own functions' names begin with, and a short one, for what has no name in
    /// an object: so several modules can lie in one file.
    std::string name, label;
    /// The functions that other objects call. They, and what they use, are kept; nobody outside the final program or
    /// shared library sees them.
    std::function<bool(std::string_view symbol)> exported;
};

/// The name of the runtime that libraries are for, if not this program's: one without threads has another.
void set_abi(const std::string &name);

/// What Halide calls `symbol`, as this version's libraries call it; other symbols stay.
std::string renamed(std::string_view symbol);
bool is_halide_symbol(std::string_view symbol);

/// The module's part of an assembly file. Throws std::runtime_error where it does not understand the text.
std::string rewrite(std::string_view assembly, const Processor &processor, const Module &module);

/// What ends an assembly file.
std::string_view end_of_file();

}  // namespace shufflenet::compile
