// Label files: one line, one label.
#include <algorithm>

#include "check.h"
#include "metadata.h"

using namespace shufflenet;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const std::string_view text(reinterpret_cast<const char *>(data), size);
    std::vector<std::string> labels;
    if (!fuzz::accepted(parse_labels(text, fuzz::kName, &labels))) return 0;
    const auto lines = std::ranges::count(text.substr(0, text.find_last_not_of("\r\n") + 1), '\n') + 1;
    fuzz::require(std::ssize(labels) == lines, "there are as many labels as lines");
    return 0;
}
