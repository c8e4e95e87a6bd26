/// @file
/// What went wrong, if anything: a value, never an exception.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "shufflenet/version.h"

#if __cplusplus <= 201703L
#error "the headers need C++20; older programs include the model's own <name>.h, which is plain C"
#endif

namespace shufflenet::inline SHUFFLENET_ABI {

/// Why a call failed. The C interface returns the same numbers.
enum class Code {
    kOk = 0,       ///< Success.
    kBadInput,     ///< A file, tensor or argument is not what it should be; the message names it.
    kUnsupported,  ///< This CPU, an instruction set asked for, or a model of another version cannot be used.
    kOutOfMemory,  ///< An allocation failed.
    kInternal,     ///< A generated function reported an error; the message names the stage.
};

/// Success, or a code and a one-line message that names the culprit, what was expected and what was found.
class [[nodiscard]] Status {
  public:
    /// Success.
    Status() noexcept = default;
    /// `message`: one line.
    Status(Code code, std::string message) noexcept : code_(code), message_(std::move(message)) {}

    /// Whether the call succeeded.
    bool ok() const noexcept { return code_ == Code::kOk; }
    /// kOk, or why not.
    Code code() const noexcept { return code_; }
    /// One line without its end; empty on success, and where there was no memory for a message.
    const std::string &message() const noexcept { return message_; }

  private:
    Code code_ = Code::kOk;
    std::string message_;
};

}  // namespace shufflenet::inline SHUFFLENET_ABI
