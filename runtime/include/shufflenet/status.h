// What went wrong, if anything: a value, never an exception.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace shufflenet {

enum class Code {
    kOk = 0,
    kBadInput,     ///< A file, tensor or argument is not what it should be; the message names it.
    kUnsupported,  ///< This CPU, or an instruction set asked for, cannot be used.
    kOutOfMemory,  ///< An allocation failed.
    kInternal,     ///< A generated function reported an error; the message names the stage.
};

/// Success, or a code and a one-line message that names the culprit, what was expected and what was found.
class [[nodiscard]] Status {
  public:
    Status() noexcept = default;
    Status(Code code, std::string message) noexcept : code_(code), message_(std::move(message)) {}

    bool ok() const noexcept { return code_ == Code::kOk; }
    Code code() const noexcept { return code_; }
    const std::string &message() const noexcept { return message_; }

  private:
    Code code_ = Code::kOk;
    std::string message_;
};

}  // namespace shufflenet
