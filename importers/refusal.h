// How the readers of this room give up.
#pragma once

#include <stdexcept>
#include <string>

#include "runtime/src/message.h"

namespace shufflenet::imports {

/// What is wrong with a file, without its name. read_status() makes it a Status where a reader is entered.
class Refusal : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// What `read` returns, or what it throws as a Status; `file` is what messages call it.
template <typename Read>
Status read_status(const std::string &file, const Read &read) {
    try {
        return read();
    } catch (const Refusal &refusal) {
        return message::bad_input(file, refusal.what());
    } catch (...) {
        return message::from_exception(file);
    }
}

}  // namespace shufflenet::imports
