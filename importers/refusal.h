// How the readers of this room give up.
#pragma once

#include <stdexcept>

namespace shufflenet::imports {

/// What is wrong with a file, without its name. Caught where a reader is entered, and made a Status there.
class Refusal : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace shufflenet::imports
