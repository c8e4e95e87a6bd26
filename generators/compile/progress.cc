#include "progress.h"

#include <unistd.h>

#include <iostream>
#include <utility>

namespace shufflenet::compile {

namespace {

constexpr const char *kStartOfLine = "\r\033[K";

}  // namespace

Progress::Progress(std::string name, bool wanted)
    : name_(std::move(name)), shown_(wanted && isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() {
    if (shown_) std::cerr << kStartOfLine << std::flush;
}

void Progress::show(size_t done, size_t all) {
    if (shown_) std::cerr << kStartOfLine << name_ << ": " << done << " of " << all << std::flush;
}

}  // namespace shufflenet::compile
